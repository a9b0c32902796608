"""A step's end of the channel: entries go out, acknowledgements come back."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from cu_market.deo.worker.frames import Decoder, Frame, encode

if TYPE_CHECKING:
    from dagster import EventLogEntry


RECENT = 256
"""Entries among which none has another's time."""


class StepChannel:
    """Numbers a step's frames and waits for what must be stored.

    Entries are told apart by their time, too: a run worker that takes over from one that is lost
    finds by it which of them are stored. So of two of one time the second is a microsecond later.

    Args:
        connection: blocking socket to the zygote.
        serialize: turns an entry into Dagster's own JSON.
    """

    def __init__(
        self, connection: socket.socket, serialize: Callable[[EventLogEntry], str]
    ) -> None:
        self._connection = connection
        self._serialize = serialize
        self._decoder = Decoder()
        self._sent = 0
        self._stored = 0
        self._times: deque[float] = deque(maxlen=RECENT)

    def send(self, entry: EventLogEntry) -> None:
        """Sends an entry home; returns at once."""
        self._sent += 1
        entry = entry._replace(timestamp=self._own_time(entry.timestamp))
        event = entry.dagster_event
        self._write(
            {
                "kind": "entry",
                "number": self._sent,
                "event": event.event_type_value if event is not None else None,
                "entry": self._serialize(entry),
            }
        )

    def _own_time(self, timestamp: float) -> float:
        while timestamp in self._times:
            timestamp += 1e-6
        self._times.append(timestamp)
        return timestamp

    def flush(self) -> None:
        """Returns when every entry sent so far is stored.

        Raises:
            ConnectionError: the run worker is gone; the step ends.
        """
        while self._stored < self._sent:
            data = self._connection.recv(65536)
            if not data:
                raise ConnectionError("the run worker closed the channel before storing an event")
            for frame in self._decoder.feed(data):
                if frame["kind"] == "stored":
                    self._stored = max(self._stored, int(frame["number"]))

    def announce_log(self, path: str, stream: str) -> None:
        """Says that the step's ``stdout`` or ``stderr`` is captured in that file."""
        self._write({"kind": "log", "path": path, "output": stream})

    def finish(self, error: str | None, memory: Frame) -> None:
        """Says that the step has ended.

        Args:
            error: a serialised system error, if there was one.
            memory: this process's, as read_own_memory gives it.
        """
        self._write({"kind": "finished", "error": error, "memory": memory})

    def _write(self, frame: Frame) -> None:
        self._connection.sendall(encode(frame))


def read_frame(connection: socket.socket) -> Frame:
    """Returns the first frame that arrives on a blocking socket.

    Raises:
        ConnectionError: it closed first.
    """
    decoder = Decoder()
    while True:
        data = connection.recv(65536)
        if not data:
            raise ConnectionError("the channel closed before a frame arrived")
        frames = decoder.feed(data)
        if frames:
            return frames[0]
