"""Reaps in the background of whoever launches runs, for as long as runs of its market live.

Run monitoring asks about runs in progress only. Under the default launcher the code server reports
the failure of a killed run worker by itself, after which nobody would ask about it again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

ROUND_SECONDS = 5.0

IDLE_ROUNDS = 60
"""Rounds without a living run before the thread ends: a run worker that still loads its code has
not given its sign of life yet."""


class Patrol:
    """A thread that calls the reaper until no run is left.

    Args:
        walk: one round; returns how many runs are still alive.
        pause: seconds until the next round.
        name: the thread's.
    """

    def __init__(
        self,
        walk: Callable[[], int],
        *,
        pause: Callable[[], float] = lambda: ROUND_SECONDS,
        name: str = "cu_market reaper",
    ) -> None:
        self._walk = walk
        self._pause = pause
        self._name = name
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread unless it runs."""
        with self._lock:
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Ends the thread after its round."""
        self._stopped.set()
        with self._lock:
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(ROUND_SECONDS)

    def _run(self) -> None:
        idle = 0
        while not self._stopped.wait(self._pause()):
            try:
                alive = self._walk()
            except Exception:
                logger.exception("round failed: %s", self._name, extra={"action": "patrol"})
                continue
            idle = 0 if alive else idle + 1
            with self._lock:
                if idle >= IDLE_ROUNDS:
                    self._thread = None
                    return
