"""What each step will read of the steps before it: as measured, or as it last was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cu_market.domain.inputs import InputData
from cu_market.domain.outline import StepOutline
from cu_market.domain.usage import Usage
from cu_market.market.demand.past import Past


def last_input_bytes(history: Sequence[Usage]) -> int | None:
    """Returns bytes of a step's inputs as last measured: what is assumed until they are written.

    Args:
        history: attempts, newest first.
    """
    return next((usage.input_bytes for usage in history if usage.input_bytes is not None), None)


def inputs_of(
    step: StepOutline, steps: Mapping[str, StepOutline], past: Past
) -> tuple[InputData, ...]:
    """Returns what a step reads, source by source; what is neither known nor told by its past is
    left out.

    What this run has measured counts. Of what is not written yet, the step's newest attempt tells
    how much it was in all: it is shared out by what each source wrote when it last ran, and evenly
    where that is not known.

    Args:
        step: with what this run knows of its sources.
        steps: of the same auction, by key: a source among them is placed by it.
        past: of the steps.
    """
    if not step.sources:
        return ()
    known = {data.source: data for data in step.inputs}
    sources = list(dict.fromkeys(source for source, _ in step.sources))
    shares = _shares(sources, steps, past)
    total = last_input_bytes(past.of(step.identity))
    found: list[InputData] = []
    for source in sources:
        data = known.get(source, InputData(source=source, size_bytes=None))
        size = data.size_bytes
        if size is None and total is not None:
            size = total * shares[source] // sum(shares.values())
        if size and (data.place is not None or source in steps):
            found.append(InputData(source=source, size_bytes=size, place=data.place))
    return tuple(found)


def _shares(sources: Sequence[str], steps: Mapping[str, StepOutline], past: Past) -> dict[str, int]:
    """Returns what each source wrote when it last ran, above 0; alike where one is not known."""
    wrote: dict[str, int] = {}
    for source in sources:
        history = past.of(steps[source].identity) if source in steps else ()
        sizes = (usage.measurement.written_bytes for usage in history)
        wrote[source] = next((size for size in sizes if size > 0), 0)
    return wrote if all(wrote.values()) else dict.fromkeys(sources, 1)
