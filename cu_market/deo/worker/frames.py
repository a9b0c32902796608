"""Length-prefixed JSON frames: the language of a worker's channel.

A frame is four bytes of big-endian length and that many bytes of UTF-8 JSON, an object. A worker
multiplexes its steps over one channel by the key ``stream``: the fencing token of the step's lease.
"""

from __future__ import annotations

import json
import struct
from typing import Any

Frame = dict[str, Any]

_LENGTH = struct.Struct(">I")
MAX_FRAME_BYTES = 256 * 2**20


class FrameError(Exception):
    """The bytes that arrived are not frames."""


def encode(frame: Frame) -> bytes:
    """Returns a frame as bytes."""
    body = json.dumps(frame, separators=(",", ":")).encode()
    return _LENGTH.pack(len(body)) + body


class Decoder:
    """Cuts a stream of bytes into frames; keeps what is incomplete."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.taken_bytes = 0
        """Of the frames that were complete."""

    def feed(self, data: bytes) -> list[Frame]:
        """Returns the frames completed by these bytes.

        Raises:
            FrameError: a length above MAX_FRAME_BYTES, or a body that is not a JSON object.
        """
        return [self._parse(body) for body in self.feed_raw(data)]

    def feed_raw(self, data: bytes) -> list[bytes]:
        """Returns the bodies completed by these bytes, unread: for forwarding."""
        self._buffer += data
        bodies: list[bytes] = []
        offset = 0
        while len(self._buffer) - offset >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, offset)
            if length > MAX_FRAME_BYTES:
                raise FrameError(f"a frame of {length} bytes; at most {MAX_FRAME_BYTES} are taken")
            end = offset + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            bodies.append(bytes(self._buffer[offset + _LENGTH.size : end]))
            offset = end
        if offset:
            del self._buffer[:offset]
            self.taken_bytes += offset
        return bodies

    @staticmethod
    def _parse(body: bytes) -> Frame:
        try:
            frame = json.loads(body)
        except ValueError as error:
            raise FrameError(f"a frame that is not JSON: {body[:80]!r}") from error
        if not isinstance(frame, dict):
            raise FrameError(f"a frame that is not an object: {body[:80]!r}")
        return frame


def wrap(body: bytes) -> bytes:
    """Returns an unread body as a frame again."""
    return _LENGTH.pack(len(body)) + body
