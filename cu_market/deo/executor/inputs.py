"""Whether what a step's inputs measure asks for another look at its size."""

from __future__ import annotations

from collections.abc import Sequence

from cu_market.domain.outline import StepOutline
from cu_market.domain.usage import Usage
from cu_market.market.demand.inputs import last_input_bytes


def is_told(step: StepOutline) -> bool:
    """Whether anything of the step's inputs was measured."""
    features = step.features
    return (step.input_bytes, features.input_rows, features.upstream_keys) != (None, None, None)


def is_as_last(step: StepOutline, history: Sequence[Usage]) -> bool:
    """Whether the inputs measure what they were taken to measure before they were written."""
    last = history[0].features
    return (
        step.input_bytes in (None, last_input_bytes(history))
        and step.features.input_rows in (None, last.input_rows)
        and step.features.upstream_keys in (None, last.upstream_keys)
    )
