"""A warm worker tells whoever takes over what was begun in it. A real one, in its own process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cu_market.deo.worker.__main__ import CHANNEL_FD_VARIABLE
from cu_market.deo.worker.frames import Decoder, Frame, encode

STEP = {
    "kind": "step",
    "step_key": "step",
    "known_state": "",
    "cpu_millis": 1000,
    "memory_bytes": 2**30,
    "niceness": 0,
}


class Worker:
    """The run worker's end of a worker's channel."""

    def __init__(self) -> None:
        self.channel, theirs = socket.socketpair()
        self.channel.settimeout(240)
        self.decoder = Decoder()
        self.frames: list[Frame] = []
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cu_market.deo.worker"],
                pass_fds=[theirs.fileno()],
                env={**os.environ, CHANNEL_FD_VARIABLE: str(theirs.fileno())},
                stderr=subprocess.DEVNULL,
            )

    def tell(self, frame: Frame) -> None:
        self.channel.sendall(encode(frame))

    def hear(self, kind: str) -> Frame:
        """Returns the next frame of a kind; earlier ones are forgotten."""
        while True:
            while self.frames:
                frame = self.frames.pop(0)
                if frame["kind"] == kind:
                    return frame
            self.frames += self.decoder.feed(self.channel.recv(65536))


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.channel.close()
    made.process.wait(240)


def test_what_was_begun_is_told_after_all_that_was_said_of_it(worker: Worker) -> None:
    worker.tell({"kind": "attach"})
    assert worker.hear("attached")["begun"] == []
    worker.tell({**STEP, "stream": 5})  # without code it ends at once, and is told of
    assert worker.hear("ended")["stream"] == 5
    worker.tell({"kind": "attach"})
    assert worker.hear("attached")["begun"] == [[5, 0]]
