"""Bytes of each step's inputs, as measured when upstream wrote them in this run."""

from __future__ import annotations

from collections.abc import Iterable

from dagster import DagsterEvent

from cu_market.dagster_compat.output_sizes import output_bytes


class MeasuredOutputs:
    """What the run's outputs measure, as their events tell it."""

    def __init__(self) -> None:
        self._bytes: dict[tuple[str, str], int] = {}

    def note(self, event: DagsterEvent) -> None:
        """Takes an output's size from its event; other events tell nothing."""
        found = output_bytes(event)
        if found is not None and event.step_key is not None:
            self._bytes[event.step_key, found[0]] = found[1]

    def total(self, sources: Iterable[tuple[str, str]]) -> int | None:
        """Returns bytes of the outputs that have a size, or None where none of them has.

        What no IO manager has stored in a file (a dependency without a value, None) has none.
        """
        known = [self._bytes[source] for source in sources if source in self._bytes]
        return sum(known) if known else None
