"""Steps of a run that goes are auctioned again, each as its next attempt."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from cu_market.deo.executor.award_book import AwardBook
from cu_market.domain.outline import RunOutline, template_key
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.spec import ComputeSpec
from cu_market.domain.units import MICROUSD, MILLIS
from cu_market.domain.vocabulary import PREFIX
from cu_market.ledger.errors import AwardTakenError
from cu_market.market.auction import Market
from cu_market.market.demand.requests import LATE_MICROUSD_PER_HOUR, read_specs

logger = logging.getLogger(__name__)


DEADLINE_TAG = f"{PREFIX}deadline_seconds"
TIME_TAG = f"{PREFIX}value_of_time_usd_per_hour"


class Due:
    """What is left of a run's deadline to steps that are auctioned again.

    Its deadline, less the time since its first auction, less the longest path of awards after them:
    an auction counts deadlines from now on, and knows nobody who is not in it.

    Args:
        outline: the run's steps.
        book: of its awards.
        held_at: when its first auction was held.
    """

    def __init__(self, outline: RunOutline, book: AwardBook, held_at: datetime) -> None:
        self._deadline_ms = read_specs(outline)[0].deadline_ms
        self._book = book
        self._held_at = held_at
        self._children: dict[str, list[str]] = defaultdict(list)
        for step in outline.steps:
            for parent in step.depends_on:
                self._children[parent].append(step.step_key)

    def left_ms(self, steps: Iterable[str], now: datetime) -> int | None:
        """Returns milliseconds until the last of some steps is to end; None without a deadline."""
        if self._deadline_ms is None:
            return None
        after: dict[str, int] = {}
        least = min((self._after_ms(template_key(step), after) for step in steps), default=0)
        passed = (now - self._held_at) / timedelta(milliseconds=1)
        return round(self._deadline_ms - passed) - least

    def _after_ms(self, step_key: str, known: dict[str, int]) -> int:
        """Returns how long what waits for a step takes; every step is looked at once."""
        stack = [step_key]
        while stack:
            top = stack[-1]
            children = self._children[top]
            missing = [child for child in children if child not in known]
            if missing:
                stack += missing
                continue
            known[top] = max(
                (self._book.award(c).expected_ms + known[c] for c in children if c in self._book),
                default=0,
            )
            stack.pop()
        return known[step_key]


def hold_anew(
    market: Market,
    book: AwardBook,
    outline: RunOutline,
    *,
    due: Due,
    floors: Mapping[str, int],
    excluded: Collection[str],
) -> None:
    """Holds an auction of some steps and takes its awards over.

    Where what is left of the deadline is enough for nobody, the quickest is taken: a run that is
    late is not ended for that.

    Args:
        market: open.
        book: of the run's awards.
        outline: the run and these steps alone.
        due: of the run.
        floors, excluded: as Market.clear.

    Raises:
        InvalidInputError, MarketUnavailableError: as Market.clear.
    """
    hold = partial(_hold, market, book, floors=floors, excluded=excluded)
    left_ms = due.left_ms((step.step_key for step in outline.steps), market.now())
    if left_ms is None:
        hold(outline)
        return
    if left_ms > 0:
        try:
            left = {DEADLINE_TAG: f"{left_ms / MILLIS:.3f}"}
            hold(replace(outline, tags={**outline.tags, **left}))
        except InvalidInputError as error:
            logger.info("late", extra={"action": "reauction_late", "reason": str(error)})
        else:
            return
    tags = {name: value for name, value in outline.tags.items() if name != DEADLINE_TAG}
    hold(replace(outline, tags={**tags, TIME_TAG: f"{LATE_MICROUSD_PER_HOUR / MICROUSD:g}"}))


def _hold(
    market: Market,
    book: AwardBook,
    outline: RunOutline,
    *,
    floors: Mapping[str, int],
    excluded: Collection[str],
) -> None:
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
