"""Whether a step whose inputs are written now is asked for anew: another size may fit them."""

from __future__ import annotations

from collections.abc import Callable

from cu_market.deo.executor.inputs import is_as_last, is_told
from cu_market.domain.features import StepFeatures
from cu_market.domain.outline import StepOutline
from cu_market.domain.request import StepIdentity
from cu_market.market.auction import Market

SHRINK_RATIO = 0.1
"""A step whose inputs turn out smaller keeps its award where it would give back less than this."""


class Resizing:
    """What one run's steps were found to need.

    Args:
        market: whose ledger knows their histories.
    """

    def __init__(self, market: Market) -> None:
        self._market = market
        self._big_enough: set[tuple[StepIdentity, int | None, StepFeatures, int]] = set()

    def is_due(self, step: StepOutline, had_bytes: int, wanted: Callable[[], int]) -> bool:
        """Whether a step's inputs ask for another size than it was awarded.

        Args:
            step: with its inputs as they were measured.
            had_bytes: what it was awarded.
            wanted: what it would be sized at now; asked only where its inputs are not as they last
                were.
        """
        # Of a thousand mapped steps alike, one is looked at: each look reads the history.
        alike = (step.identity, step.input_bytes, step.features, had_bytes)
        if not is_told(step) or alike in self._big_enough:
            return False
        history = self._market.past({step.identity}, is_borrowing=False).of(step.identity)
        is_same = not history or is_as_last(step, history)
        if is_same or had_bytes * (1 - SHRINK_RATIO) <= wanted() <= had_bytes:
            self._big_enough.add(alike)
            return False
        return True
