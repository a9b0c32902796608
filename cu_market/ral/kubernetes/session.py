"""A pair of byte streams that outlive the connections that carry them.

Each end numbers the bytes that it sends and keeps them until the other end has them. After a cut,
both say on the new connection how much they have, and sending goes on from there: nothing is lost,
nothing comes twice. Standard library only: a pod runs this from any image that has the package.

A message is one byte of kind, eight of offset, four of length, and the body.
"""

from __future__ import annotations

import struct
from enum import IntEnum

_HEADER = struct.Struct(">BQI")
MAX_BODY_BYTES = 256 * 1024
"""Small enough that an acknowledgement never waits long behind data."""


class Kind(IntEnum):
    """What a message is.

    HELLO: body is the token; offset is how much has been received. DATA: body belongs at offset.
    ACK: everything before offset has been received. PING, PONG: a sign of life, no body. END: no
    data follows offset; the body says why, in words.
    """

    HELLO = 1
    DATA = 2
    ACK = 3
    PING = 4
    PONG = 5
    END = 6


class SessionError(Exception):
    """The other end broke the protocol, or it is not the one that was meant."""


class Session:
    """One end. Knows nothing of sockets: bytes go in, bytes come out.

    Args:
        token: both ends have the same; a connection that says another one is refused.
        limit_bytes: is_full beyond it; the owner then stops writing for a while.
    """

    def __init__(self, token: str, *, limit_bytes: int = 16 * 2**20) -> None:
        self._token = token.encode()
        self._limit_bytes = limit_bytes
        self._kept = bytearray()
        self._kept_from = 0
        self._sent_to = 0
        self._received_to = 0
        self._incoming = bytearray()
        self._control = bytearray()
        self._end: bytes | None = None
        self._is_end_sent = False
        self._is_greeted = False
        self.peer_end: str | None = None
        """Why the other end has ended, once all that it sent before has arrived; else None."""

    # -- the owner's side

    def write(self, data: bytes) -> None:
        """Takes bytes for the other end."""
        self._kept += data

    def end(self, reason: str) -> None:
        """Says that no more is written."""
        if self._end is None:
            self._end = reason.encode()

    def ping(self) -> None:
        """Asks for a sign of life."""
        self._control += self._message(Kind.PING, 0)

    @property
    def is_full(self) -> bool:
        """Whether more than the limit waits to be received."""
        return len(self._kept) > self._limit_bytes

    @property
    def is_delivered(self) -> bool:
        """Whether the other end has everything that was written."""
        return not self._kept and (self._end is None or self._is_end_sent)

    # -- the connection's side

    def connected(self) -> None:
        """Begins a new connection: whatever was under way on the old one is forgotten."""
        self._incoming.clear()
        self._is_greeted = False
        self._is_end_sent = False
        self._control[:] = self._message(Kind.HELLO, self._received_to, self._token)

    def to_send(self) -> bytes:
        """Returns the next bytes for the connection; empty when there is nothing to say."""
        if self._control:
            data = bytes(self._control)
            self._control.clear()
            return data
        if not self._is_greeted:
            return b""
        begin = self._sent_to - self._kept_from
        body = bytes(self._kept[begin : begin + MAX_BODY_BYTES])
        if body:
            message = self._message(Kind.DATA, self._sent_to, body)
            self._sent_to += len(body)
            return message
        if self._end is not None and not self._is_end_sent:
            self._is_end_sent = True
            return self._message(Kind.END, self._sent_to, self._end)
        return b""

    def feed(self, data: bytes) -> bytes:
        """Takes what the connection brought; returns the owner's bytes among it, in order.

        Raises:
            SessionError: wrong token, or bytes that are not this protocol's.
        """
        self._incoming += data
        received = bytearray()
        while len(self._incoming) >= _HEADER.size:
            kind, offset, length = _HEADER.unpack_from(self._incoming)
            if length > MAX_BODY_BYTES:
                raise SessionError(f"a message of {length} bytes")
            if len(self._incoming) < _HEADER.size + length:
                break
            body = bytes(self._incoming[_HEADER.size : _HEADER.size + length])
            del self._incoming[: _HEADER.size + length]
            received += self._take(kind, offset, body)
        if received:
            self._control += self._message(Kind.ACK, self._received_to)
        return bytes(received)

    def _take(self, kind: int, offset: int, body: bytes) -> bytes:
        if kind == Kind.HELLO:
            if body != self._token:
                raise SessionError("another session's token")
            self._forget_to(offset)
            self._sent_to = offset
            self._is_greeted = True
        elif not self._is_greeted:
            raise SessionError(f"message {kind} before the greeting")
        elif kind == Kind.DATA:
            if offset != self._received_to:
                raise SessionError(f"bytes from {offset}, wanted from {self._received_to}")
            self._received_to += len(body)
            return body
        elif kind == Kind.ACK:
            self._forget_to(offset)
        elif kind == Kind.PING:
            self._control += self._message(Kind.PONG, 0)
        elif kind == Kind.END:
            self.peer_end = body.decode(errors="replace")
        elif kind != Kind.PONG:
            raise SessionError(f"a message of kind {kind}")
        return b""

    def _forget_to(self, offset: int) -> None:
        if not self._kept_from <= offset <= self._kept_from + len(self._kept):
            raise SessionError(f"the other end has {offset} bytes, which were never sent")
        del self._kept[: offset - self._kept_from]
        self._kept_from = offset

    @staticmethod
    def _message(kind: Kind, offset: int, body: bytes = b"") -> bytes:
        return _HEADER.pack(kind, offset, len(body)) + body
