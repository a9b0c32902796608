"""Sends a step's event log entries to the run worker, which alone writes them.

Private: the instance's event storage. Its writing methods are replaced on the object, so that
everything which asks for its type, or reads from it, goes on working; seen in 1.13.27.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from dagster import DagsterEventType, DagsterInstance, EventLogEntry

from cu_market.dagster_compat.output_sizes import with_output_bytes

DECIDING = frozenset(
    {
        DagsterEventType.ASSET_MATERIALIZATION,
        DagsterEventType.ASSET_OBSERVATION,
        DagsterEventType.ASSET_CHECK_EVALUATION,
        DagsterEventType.STEP_SUCCESS,
        DagsterEventType.STEP_FAILURE,
        DagsterEventType.STEP_UP_FOR_RETRY,
    }
)
"""Events that return to the step only when they are stored."""

_READS = ("get_", "has_", "fetch_", "can_", "all_")


class Relay(Protocol):
    """A step's end of the channel."""

    def send(self, entry: EventLogEntry) -> None:
        """Sends an entry home; returns at once."""

    def flush(self) -> None:
        """Returns when every entry sent so far is stored."""

    def announce_log(self, path: str, stream: str) -> None:
        """Says that the step's ``stdout`` or ``stderr`` is captured in that file."""


@contextmanager
def relay_events(instance: DagsterInstance, relay: Relay) -> Iterator[None]:
    """Within it, what the instance would write to the event log goes through the relay.

    Reads of the event log wait until what was sent is stored: a step sees what it has written.
    """
    storage: Any = instance.event_log_storage

    def store_event(entry: EventLogEntry) -> None:
        relay.send(with_output_bytes(entry))
        if entry.dagster_event is not None and entry.dagster_event.event_type in DECIDING:
            relay.flush()

    def store_event_batch(entries: Sequence[EventLogEntry]) -> None:
        for entry in entries:
            relay.send(with_output_bytes(entry))
        relay.flush()

    replaced: dict[str, Callable[..., Any]] = {
        "store_event": store_event,
        "store_event_batch": store_event_batch,
    }
    for name in dir(type(storage)):
        method = getattr(type(storage), name, None)
        if name.startswith(_READS) and callable(method):
            replaced[name] = _after_flush(getattr(storage, name), relay)
    for name, method in replaced.items():
        setattr(storage, name, method)
    try:
        yield
    finally:
        for name in replaced:
            delattr(storage, name)


def _after_flush(read: Callable[..., Any], relay: Relay) -> Callable[..., Any]:
    def flushed_read(*args: Any, **kwargs: Any) -> Any:
        relay.flush()
        return read(*args, **kwargs)

    return flushed_read
