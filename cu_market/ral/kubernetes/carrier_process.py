"""The program beside a pod's worker that carries its channel where exec is not allowed.

Started by process 1, which knows nothing of how it carries. Standard library only.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

GAVE_UP = 2
"""Its exit code when it can never carry anything: no address, no way, another version."""

_BACKOFF_SECONDS = (0.1, 0.3, 1.0, 2.0, 5.0)


class CarrierProcess:
    """Keeps the program running; ends it in order.

    It ends by itself when its standard input closes: with process 1, whatever ended that.

    Args:
        module: what to run with ``python -m``.
        clock: monotonic seconds.

    Attributes:
        has_given_up: whether it will never carry anything.
    """

    def __init__(self, module: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._module = module
        self._clock = clock
        self._deaths = 0
        self._start_at: float | None = None
        self.has_given_up = False
        self._process = self._start()

    @property
    def pid(self) -> int:
        """The program's process, or the last one that it had."""
        return self._process.pid

    def note_end(self, exit_code: int) -> None:
        """Takes its exit code from whoever reaps this process's children."""
        self._process.returncode = exit_code
        self._close_input()
        self.has_given_up = exit_code == GAVE_UP
        pause = _BACKOFF_SECONDS[min(self._deaths, len(_BACKOFF_SECONDS) - 1)]
        self._deaths += 1
        self._start_at = self._clock() + pause

    def watch(self) -> None:
        """Starts it anew some time after it has died."""
        if self._start_at is not None and not self.has_given_up:
            if self._clock() < self._start_at:
                return
            self._start_at = None
            self._process = self._start()

    def finish(self, seconds: float) -> None:
        """Lets it deliver what it still has, for so long at most."""
        self._close_input()
        if self._process.returncode is None:
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", self._module], stdin=subprocess.PIPE, start_new_session=True
        )

    def _close_input(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
