"""A pair of byte streams that outlive the connections that carry them.

Each end numbers the bytes that it sends and keeps them until the other end has them. After a cut,
both say on the new connection how much they have, and sending goes on from there: nothing is lost,
nothing comes twice. Standard library only: a pod runs this from any image that has the package.

An end may outlive the other one, too. Bytes are kept until the other end has stored them, which is
later than that it has received them; another process that takes over gets whatever its predecessor
had not stored. What one call of write has given arrives whole or, if its writer was lost on the
way, not at all.

A message is one byte of kind, eight of offset, four of length, and the body.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from enum import IntEnum

_HEADER = struct.Struct(">BQI")
MAX_BODY_BYTES = 256 * 1024
"""Small enough that an acknowledgement never waits long behind data."""


class Kind(IntEnum):
    """What a message is.

    HELLO: body is the token, and the epoch of who may be followed by another; offset is how much
    has been received. DATA: body belongs at offset, and ends where a write ended. ACK: everything
    before offset has been received. PING, PONG: a sign of life, no body. END: no data follows
    offset; the body says why, in words. PART: data of a write that goes on. STORED: everything
    before offset need not be kept any more. TAKE: in place of HELLO, from who follows another: body
    is the token, offset the epoch. FROM: the answer: data goes on from offset.
    """

    HELLO = 1
    DATA = 2
    ACK = 3
    PING = 4
    PONG = 5
    END = 6
    PART = 7
    STORED = 8
    TAKE = 9
    FROM = 10


class SessionError(Exception):
    """The other end broke the protocol, or it is not the one that was meant."""


class Session:
    """One end. Knows nothing of sockets: bytes go in, bytes come out.

    Args:
        token: both ends have the same; a connection that says another one is refused.
        limit_bytes: is_full beyond it; the owner then stops writing for a while.
        epoch: of an end that may be followed by another, 0 for the first; a later one is larger,
            begins by taking over, and from then on its predecessors are refused. None: of an end
            that stays.
        is_told: whether the owner says what it has stored; else what is received counts as stored.
    """

    def __init__(
        self,
        token: str,
        *,
        limit_bytes: int = 16 * 2**20,
        epoch: int | None = None,
        is_told: bool = False,
    ) -> None:
        self._token = token.encode()
        self._limit_bytes = limit_bytes
        self._own_epoch = epoch
        self._peer_epoch = 0
        self._is_taking = bool(epoch)
        self._is_told = is_told
        self._kept = bytearray()
        self._kept_from = 0
        self._write_ends: list[int] = []
        self._sent_to = 0
        self._peer_has_to = 0
        self._received_to = 0
        self._stored_to = 0
        self._part = bytearray()
        self._incoming = bytearray()
        self._control = bytearray()
        self._end: bytes | None = None
        self._is_end_sent = False
        self._is_greeted = False
        self._is_answered = False
        self.peer_end: str | None = None
        """Why the other end has ended, once all that it sent before has arrived; else None."""

    # -- the owner's side

    def write(self, data: bytes) -> None:
        """Takes bytes for the other end, which gets them all or none."""
        if data:
            self._kept += data
            self._write_ends.append(self._kept_from + len(self._kept))

    def end(self, reason: str) -> None:
        """Says that no more is written."""
        if self._end is None:
            self._end = reason.encode()

    def ping(self) -> None:
        """Asks for a sign of life."""
        self._control += self._message(Kind.PING, 0)

    def store(self, size: int) -> None:
        """Says that so many more of the received bytes are stored."""
        if not 0 <= size <= self._received_to - self._stored_to:
            raise ValueError(f"stored {size} more bytes than were received")
        self._stored_to += size
        self._control += self._message(Kind.STORED, self._stored_to)

    @property
    def is_full(self) -> bool:
        """Whether more than the limit waits to be received."""
        return self._kept_from + len(self._kept) - self._peer_has_to > self._limit_bytes

    @property
    def is_delivered(self) -> bool:
        """Whether the other end has everything that was written."""
        has_all = self._peer_has_to == self._kept_from + len(self._kept)
        return has_all and (self._end is None or self._is_end_sent)

    # -- the connection's side

    def connected(self) -> None:
        """Begins a new connection: whatever was under way on the old one is forgotten."""
        self._incoming.clear()
        self._is_greeted = self._is_answered = False
        self._is_end_sent = False
        if self._is_taking:
            self._control[:] = self._message(Kind.TAKE, self._own_epoch or 0, self._token)
            return
        epoch = b"" if self._own_epoch is None else b".%d" % self._own_epoch
        self._control[:] = self._message(Kind.HELLO, self._received_to, self._token + epoch)
        self._control += self._message(Kind.STORED, self._stored_to)

    def admits(self, beginning: bytes) -> bool | None:
        """Returns whether a connection that begins so may replace the present one; None: these are
        too few bytes to tell."""
        if len(beginning) < _HEADER.size:
            return None
        kind, offset, length = _HEADER.unpack_from(beginning)
        if kind not in (Kind.HELLO, Kind.TAKE) or length > len(self._token) + 21:
            return False
        if len(beginning) < _HEADER.size + length:
            return None
        try:
            self._check_greeting(kind, offset, beginning[_HEADER.size : _HEADER.size + length])
        except SessionError:
            return False
        return True

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
            return self._data(body)
        if self._end is not None and not self._is_end_sent:
            self._is_end_sent = True
            return self._message(Kind.END, self._sent_to, self._end)
        return b""

    def _data(self, body: bytes) -> bytes:
        """Returns a message of the next bytes, up to the end of a write where there is one."""
        ended = bisect_right(self._write_ends, self._sent_to + len(body))
        last = self._write_ends[ended - 1] if ended else 0
        is_whole = last > self._sent_to
        if is_whole:
            body = body[: last - self._sent_to]
        message = self._message(Kind.DATA if is_whole else Kind.PART, self._sent_to, body)
        self._sent_to += len(body)
        return message

    def feed(self, data: bytes) -> bytes:
        """Takes what the connection brought; returns the owner's bytes among it, in order.

        Raises:
            SessionError: wrong token, an epoch that is over, or bytes that are not this protocol's.
        """
        self._incoming += data
        received = bytearray()
        before = self._received_to
        while len(self._incoming) >= _HEADER.size:
            kind, offset, length = _HEADER.unpack_from(self._incoming)
            if length > MAX_BODY_BYTES:
                raise SessionError(f"a message of {length} bytes")
            if len(self._incoming) < _HEADER.size + length:
                break
            body = bytes(self._incoming[_HEADER.size : _HEADER.size + length])
            del self._incoming[: _HEADER.size + length]
            received += self._take(kind, offset, body)
        if self._received_to != before:
            self._acknowledge()
        return bytes(received)

    def _acknowledge(self) -> None:
        if self._is_told:
            self._control += self._message(Kind.ACK, self._received_to)
        else:
            self.store(self._received_to - self._stored_to)

    def _take(self, kind: int, offset: int, body: bytes) -> bytes:
        if kind in (Kind.HELLO, Kind.TAKE):
            self._check_greeting(kind, offset, body)
            self._greet(kind, offset)
        elif kind == Kind.FROM and self._is_taking and self._is_answered:
            self._received_to = self._stored_to = offset
            self._is_taking, self._is_greeted = False, True
        elif kind == Kind.STORED and self._is_taking and self._is_answered:
            return b""  # it concerns the predecessor's bytes
        elif not self._is_greeted:
            raise SessionError(f"message {kind} before the greeting")
        elif kind in (Kind.DATA, Kind.PART):
            return self._receive(kind, offset, body)
        elif kind == Kind.ACK:
            self._note_received(offset)
        elif kind == Kind.STORED:
            self._note_received(max(offset, self._peer_has_to))
            self._forget_to(offset)
        elif kind == Kind.PING:
            self._control += self._message(Kind.PONG, 0)
        elif kind == Kind.END:
            self.peer_end = body.decode(errors="replace")
        elif kind != Kind.PONG:
            raise SessionError(f"a message of kind {kind}")
        return b""

    def _check_greeting(self, kind: int, offset: int, body: bytes) -> None:
        token, _, epoch = body.partition(b".")
        if token != self._token:
            raise SessionError("another session's token")
        if kind == Kind.TAKE:
            is_over = offset < self._peer_epoch
        else:
            is_over = bool(epoch) and epoch != b"%d" % self._peer_epoch
        if is_over:
            raise SessionError("another has taken over this session")

    def _greet(self, kind: int, offset: int) -> None:
        if kind == Kind.TAKE:
            self._peer_epoch = offset
            self._part.clear()  # whoever would have sent the rest is gone
            self._peer_has_to = self._sent_to = self._kept_from
            self._control += self._message(Kind.FROM, self._kept_from)
        elif self._is_taking:
            # Nothing of ours was sent yet: it begins where the predecessor's has ended.
            moved = offset - self._kept_from
            self._write_ends = [end + moved for end in self._write_ends]
            self._kept_from = self._sent_to = self._peer_has_to = offset
            self._is_answered = True
            return  # data waits for FROM
        else:
            self._note_received(offset)
            self._sent_to = offset
        self._is_greeted = True

    def _receive(self, kind: int, offset: int, body: bytes) -> bytes:
        if offset != self._received_to:
            raise SessionError(f"bytes from {offset}, wanted from {self._received_to}")
        self._received_to += len(body)
        self._part += body
        if kind == Kind.PART:
            return b""
        whole = bytes(self._part)
        self._part.clear()
        return whole

    def _note_received(self, offset: int) -> None:
        if not self._kept_from <= offset <= self._kept_from + len(self._kept):
            raise SessionError(f"the other end has {offset} bytes, which were never sent")
        self._peer_has_to = offset

    def _forget_to(self, offset: int) -> None:
        if offset > self._kept_from:
            del self._kept[: offset - self._kept_from]
            del self._write_ends[: bisect_right(self._write_ends, offset)]
            self._kept_from = offset

    @staticmethod
    def _message(kind: Kind, offset: int, body: bytes = b"") -> bytes:
        return _HEADER.pack(kind, offset, len(body)) + body
