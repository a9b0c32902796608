"""A queue of SQLite's writers, across processes, ahead of SQLite's own lock.

SQLite lets a waiting writer sleep for longer and longer, up to 100 ms, and gives the lock to
whoever happens to ask when it is free: of 16 busy processes one was seen to wait for 3 seconds.
Here a waiting writer asks an advisory file lock (which costs a microsecond, where asking SQLite
costs fifty) every few milliseconds at random times, so that all have the same chance.

The queue decides who goes first, never who may write: that is SQLite's lock. Where there are no
such file locks (Windows, some network file systems) everything holds, only less evenly. The kernel
gives the lock back when its process dies.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl


class WriterQueue:
    """Gives turns to write.

    Attributes:
        path: file that is locked; made where it is missing, and never written.
        seconds: how long to wait for a turn before asking SQLite without one.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self.path = path
        self.seconds = seconds

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Waits for a turn, which ends with the block."""
        # Opened anew each time: a descriptor that a fork had copied would share its lock.
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:  # a directory that may not be written; SQLite says so more fully
            yield
            return
        try:
            self._wait(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _wait(self, descriptor: int) -> None:
        if sys.platform == "win32":
            return
        deadline = time.monotonic() + self.seconds
        while time.monotonic() < deadline:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(random.uniform(0.003, 0.012))
            except OSError:  # no such locks on this file system
                return
