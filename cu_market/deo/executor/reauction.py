"""Steps of a run that goes are auctioned again, each as its next attempt."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from cu_market.deo.executor.award_book import AwardBook
from cu_market.domain.outline import RunOutline, template_key
from cu_market.domain.spec import ComputeSpec
from cu_market.ledger.errors import AwardTakenError
from cu_market.market.auction import Market


def hold_anew(
    market: Market,
    book: AwardBook,
    outline: RunOutline,
    *,
    floors: Mapping[str, int],
    excluded: Collection[str],
) -> None:
    """Holds an auction of some steps and takes its awards over.

    Args:
        market: open.
        book: of the run's awards.
        outline: the run and these steps alone.
        floors, excluded: as Market.clear.

    Raises:
        InvalidInputError, MarketUnavailableError: as Market.clear.
    """
    attempts = {step.step_key: book.next_attempt(step.step_key) for step in outline.steps}
    while True:
        try:
            cleared = market.clear(
                outline, place="executor", attempts=attempts, floors=floors, excluded=excluded
            )
            break
        except AwardTakenError:  # another run's auction has moved an award meanwhile
            attempts = {step: attempt + 1 for step, attempt in attempts.items()}
    for row in cleared.allocations.values():
        book.adopt(row, cleared.auction)


class KeptSteps:
    """A run's steps that are kept together, as its executor sees them.

    Args:
        market: whose ledger tells where they have begun.
        book: of the run's awards.
        run_id: the run.
        said: everything that is said of each step of its outline.
    """

    def __init__(
        self, market: Market, book: AwardBook, run_id: str, said: Mapping[str, ComputeSpec]
    ) -> None:
        self._book = book
        self._companions = market.companions.of(run_id)
        self._names = {step: spec.together for step, spec in said.items() if spec.together}

    def others(self, step_key: str) -> frozenset[str]:
        """Returns the other steps of the outline that a step of it is kept together with."""
        name = self._names.get(step_key)
        others = (step for step, own in self._names.items() if own == name and step != step_key)
        return frozenset(others if name else ())

    def located(self, steps: Iterable[str]) -> dict[str, str]:
        """Returns where the steps' awards are, as far as their auctions told it."""
        return {step: at for step in steps if (at := self._book.location(step)) is not None}

    def away_from(self, step_key: str) -> str:
        """Returns where a step must run since what it is kept together with has begun there, where
        its award is elsewhere; else nothing."""
        name = self._names.get(step_key) or self._names.get(template_key(step_key))
        location = self._book.location(step_key) if name else None
        if not name or location is None:
            return ""
        kept = self._companions.begun(name)
        return "" if kept is None or kept.location == location else kept.location
