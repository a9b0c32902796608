"""How long a pod is waited for, by what it is to do next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

PING_SECONDS = 10.0
SILENCE_SECONDS = 30.0
"""Three pings without an answer: a frozen server gives no error."""

HOPELESS_SECONDS = 10.0
"""How long a pod may wait for what only a person can mend: a first image pull may fail once."""

EARLY_SECONDS = (0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0)
"""When after its creation a pod is tried to be reached although nobody has said that it runs: a
kubelet looks for started containers once a second, and tells of them later still."""

STATUS_SECONDS = 4.0
"""How long a kubelet may take to report what ended a container."""

_BACKOFF_SECONDS = (0.1, 0.3, 1.0, 2.0, 5.0)
FAREWELL_SECONDS = 2.0
"""How long a pod that is closed is waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodTerms:
    """How long a pod's worker waits for what.

    Attributes:
        pending_seconds: a pod that does not run by then is a withdrawn bid.
        disconnect_seconds: a pod that nobody has reached for so long has ended itself.
    """

    pending_seconds: float
    disconnect_seconds: float


def pauses_between() -> Iterator[float]:
    """Yields seconds to wait before each next try, without end."""
    yield from _BACKOFF_SECONDS
    while True:
        yield _BACKOFF_SECONDS[-1]
