"""Work beside the loop: one piece at a time in a thread of its own, taken up when it is done."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(slots=True)
class Done(Generic[T]):
    """What a piece of work came to.

    Attributes:
        found: what it returned; None where it failed.
        failure: why it failed, or empty.
    """

    found: T | None = None
    failure: str = ""


class Aside(Generic[T]):
    """Does one piece of work at a time; never waits for it.

    Args:
        name: of the work, for logs and the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._done: Done[T] | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_at_work(self) -> bool:
        """Whether a piece of work has begun and was not taken up."""
        return self._thread is not None

    def begin(self, work: Callable[[], T]) -> None:
        """Begins a piece of work; whatever it raises is logged and told with what it came to."""

        def run() -> None:
            try:
                done = Done(found=work())
            except Exception as error:  # whatever it is, the run goes on
                logger.exception("%s failed", self._name, extra={"action": self._name})
                done = Done(failure=str(error))
            self._done = done

        self._thread = threading.Thread(target=run, name=f"cu_market {self._name}", daemon=True)
        self._thread.start()

    def take(self) -> Done[T] | None:
        """Returns what the work came to, once; None while there is none or it goes on."""
        done = self._done
        if done is not None:
            self._done = self._thread = None
        return done
