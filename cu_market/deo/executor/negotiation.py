"""The executor's side of the market: awards become leases, leases become bills."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from cu_market.dagster_compat.measured_outputs import MeasuredOutputs
from cu_market.deo.executor.award_book import AwardBook
from cu_market.deo.executor.leases import Leases
from cu_market.deo.executor.origins import Origins
from cu_market.deo.executor.reauction import Due, KeptSteps, hold_anew
from cu_market.deo.executor.resizing import Resizing
from cu_market.deo.executor.usage import usage_of
from cu_market.deo.executor.withdrawn import Withdrawn
from cu_market.domain.allocation import Allocation
from cu_market.domain.auction import Auction
from cu_market.domain.curve import UsageCurve
from cu_market.domain.lease import Refusal
from cu_market.domain.outline import RunOutline, StepOutline, expanded, template_key
from cu_market.domain.problem import CUMarketError, InvalidInputError
from cu_market.domain.request import StepIdentity
from cu_market.domain.spec import OnOom, Risk, SizingMode
from cu_market.domain.usage import Ending, Measurement
from cu_market.market.accounts.purse import Purse
from cu_market.market.accounts.spending import DEFAULT_ACCOUNT
from cu_market.market.auction import Cleared, Market
from cu_market.market.demand.requests import (
    merged_specs,
    part_of,
    read_specs,
    tags_for,
)
from cu_market.market.renegotiation.proposals import commit
from cu_market.market.renegotiation.replan import Move
from cu_market.market.renting.replans import Replanned
from cu_market.market.unserved import MarketUnavailableError
from cu_market.pse.empirical import next_after_oom
from cu_market.pse.sizing import SizedStep

logger = logging.getLogger(__name__)

MAX_INFRASTRUCTURE_ATTEMPTS = 4
"""Attempts of a step that are lost through no fault of its own before the step fails."""

MAX_MEMORY_ATTEMPTS = 8

MAX_REVOCATIONS = 2
"""Leases of a spot CU that a step may lose before it is sent elsewhere."""


class Negotiation:
    """One run's dealings with the market.

    Args:
        market: open.
        outline: the run's steps.
        awards: by step key, as the launcher or this executor's own auction gave them.
        auction: the auction that gave them.

    Attributes:
        outline, first_auction: as given.
        leases: what the run holds.
        outputs: what its steps have written.
        kept: its steps that are kept together.
    """

    def __init__(
        self,
        market: Market,
        outline: RunOutline,
        awards: Mapping[str, Allocation],
        auction: Auction,
    ) -> None:
        self.market = market
        self.outline = outline
        self.first_auction = auction
        self._steps = {step.step_key: step for step in outline.steps}
        self._book = AwardBook(market.ledger, outline.run_id, awards, auction)
        run, self._specs = read_specs(outline)
        self._said = merged_specs(outline)
        due = Due(outline, self._book, auction.held_at)
        self._hold_anew = partial(hold_anew, market, self._book, due=due)
        self.kept = KeptSteps(market, self._book, outline.run_id, self._said)
        purse = Purse(
            market=market,
            run_id=outline.run_id,
            account=run.account or DEFAULT_ACCOUNT,
            priority=run.priority or 0,
            budget_microusd=run.budget_microusd,
        )
        self.leases = Leases(market, outline.run_id, purse)
        self.outputs = MeasuredOutputs()
        self._resized: set[str] = set()
        self._resizing = Resizing(market)
        self._floors: dict[str, int] = {}
        self._lost: dict[str, int] = defaultdict(int)
        self._revocations: dict[str, int] = defaultdict(int)
        self._leased: set[str] = set()
        self._withdrawn = Withdrawn()
        self._origins = Origins(market)

    # -- awards

    def count_past_attempts(self) -> None:
        """Counts on from what the ledger has of this run: a key is leased once."""
        for lease in self._book.count_past_attempts():
            self._origins.note(lease)

    def note_begun(self, step_keys: Iterable[str]) -> None:
        """Notes steps that another run worker has begun: they are not moved any more."""
        for step_key in step_keys:
            self._leased |= {step_key, template_key(step_key)}

    def award(self, step_key: str) -> Allocation:
        """Returns the award under which the step's next attempt would be leased."""
        return self._book.award(step_key)

    def report(self, step_key: str) -> Mapping[str, Any]:
        """Returns what the auction said of the step."""
        return self._book.report(step_key)

    def take_over(self) -> list[Auction]:
        """Takes over what other runs' auctions have moved; returns those auctions, oldest first."""
        return self._book.take_over()

    @property
    def moves_made(self) -> Mapping[str, int]:
        """How often each step's award was moved of free will."""
        return self._book.moves_made

    # -- leases and bills

    def lease(self, award: Allocation, holder: str) -> Allocation | Refusal:
        """Takes the lease of a step's next attempt, or says what the pool is short of."""
        outcome = self.leases.take(award, holder)
        if isinstance(outcome, Allocation):
            self._origins.note(outcome)
            self._book.attempts[award.step_key] = award.attempt
            if template_key(award.step_key) not in self._leased:
                self._book.end_template(award.step_key, self.market.now())
            self._leased |= {award.step_key, template_key(award.step_key)}
        return outcome

    def settle(
        self, lease: Allocation, ending: Ending, measurement: Measurement | None
    ) -> Allocation:
        """Ends a lease, bills it and keeps what the step used."""
        now = self.market.now()
        usage = None
        if measurement is not None:
            step = self._measured(lease.step_key)
            usage = usage_of(
                lease,
                step,
                ending,
                measurement,
                job_name=self.outline.job_name,
                spec=self._specs[self._step(lease.step_key).step_key],
                ended_at=now,
            )
        return self.market.ledger.settle(lease.key, lease.fencing_token, ended_at=now, usage=usage)

    def is_new(self, step_key: str) -> bool:
        """Whether the auction knew no attempt of the step: the first is profiled more finely."""
        return not self.report(step_key).get("forecast_memory_bytes")

    def may_grow(self, lease: Allocation) -> bool:
        """Whether a lease may become larger while its step runs: its CU's limits can be raised, and
        nobody has said that the size is fixed or that running out of memory is a failure."""
        spec = self._said[self._step(lease.step_key).step_key]
        is_free = spec.on_oom is not OnOom.FAIL and spec.sizing is not SizingMode.FIXED
        return is_free and self.market.providers[lease.provider].capabilities.grows

    def grow(
        self, lease: Allocation, wanted_bytes: int, *, least_bytes: int
    ) -> Allocation | Refusal | None:
        """Makes a lease larger in place; returns it, or what is in the way, None: not sold so.

        Raises:
            LeaseLostError: it has ended.
        """
        limit = self._said[self._step(lease.step_key).step_key].max_price_microusd_per_hour
        return self.leases.grow(
            lease, wanted_bytes, least_bytes=least_bytes, most_microusd_per_hour=limit
        )

    def earlier_curves(self, step_key: str, limit: int) -> Sequence[UsageCurve]:
        """Returns what the newest attempts that ended well used over time, newest first."""
        identity = self._step(step_key).identity
        return self.market.ledger.curves(identity, limit=limit, ended_well=True)

    def keep_curve(self, lease: Allocation, record: dict[str, Any] | None) -> None:
        """Keeps what an attempt used over time, where its worker told it."""
        if record and record.get("memory_bytes"):
            curve, identity = UsageCurve.from_record(record), self._step(lease.step_key).identity
            self.market.ledger.keep_curve(lease.key, identity, curve, ended_at=self.market.now())

    def tags(self, step_key: str) -> Mapping[str, str]:
        """Returns the step's own tags."""
        return self._step(step_key).tags

    # -- inputs that were measured

    def resize(self, step_key: str) -> bool:
        """Holds a new auction for a step whose inputs were written, where their size asks for it.

        Until then it was sized for inputs as they last were. Looked at once; where nobody can serve
        the new size, the award stands.

        Returns:
            whether it has a new award.
        """
        if step_key in self._resized:
            return False
        self._resized.add(step_key)
        step, had_bytes = self._measured(step_key), self.award(step_key).size.memory_bytes
        if not self._resizing.is_due(step, had_bytes, lambda: self._size(step).needs.memory_bytes):
            return False
        try:
            self._reauction(step_key)
        except CUMarketError:
            logger.warning("inputs have grown, nobody serves it", extra={"action": "resize"})
            return False
        return True

    # -- CUs that did not deliver

    def withdraw(self, resource_id: str) -> None:
        """Counts a CU's bids for nothing, for a while."""
        self._withdrawn.add(resource_id)

    def is_withdrawn(self, step_key: str) -> bool:
        """Whether the step's award is of a CU that did not deliver."""
        return self.award(step_key).resource_id in self.excluded()

    def award_elsewhere(self, step_key: str, without: Collection[str] = frozenset()) -> None:
        """Holds a new auction for a step without these CUs and those that did not deliver.

        Raises:
            InvalidInputError, MarketUnavailableError: nobody else can serve it.
        """
        self._reauction(step_key, without)

    # -- moving what has not started

    def not_started(self) -> tuple[str, ...]:
        """Returns the steps of the outline that have an award and never had a lease."""
        return tuple(
            step.step_key
            for step in self.outline.steps
            if step.step_key in self._book and step.step_key not in self._leased
        )

    @property
    def begun(self) -> frozenset[str]:
        """The steps that have, or had, a lease."""
        return frozenset(self._leased)

    def waiting_on(self, resource_id: str, again: Collection[str]) -> list[str]:
        """Returns the steps that are to run on a CU: those that have not begun, or begin again.

        Args:
            resource_id: the CU.
            again: steps that were let go ahead and have no lease.
        """
        steps = dict.fromkeys([*self._book.steps, *again])
        waits = (step for step in steps if step in again or step not in self._leased)
        return sorted(step for step in waits if self.award(step).resource_id == resource_id)

    def award_anew(self, steps: Collection[str]) -> None:
        """Holds a new auction for steps that run now no more or not yet, all together; mapped ones
        may be among them.

        Raises:
            InvalidInputError, MarketUnavailableError: nobody can serve one of them.
        """
        outline = self.remaining({*steps, *map(template_key, steps)})
        mapped = [step for step in steps if step not in self._steps]
        known = [
            replace(each, depends_on=expanded(each.depends_on, mapped))
            for each in outline.steps
            if each.step_key in steps
        ]
        outline = replace(outline, steps=(*known, *map(self._measured, mapped)))
        self._hold_anew(outline, floors=self._floors, excluded=self.excluded())

    @property
    def awarded(self) -> tuple[str, ...]:
        """The steps that have an award of their own, mapped ones that were auctioned too."""
        return self._book.steps

    def take_replanned(self, found: Replanned) -> None:
        """Writes what a look at the run's rentals moves, and takes it over.

        Raises:
            AwardTakenError: another auction has awarded one of its steps meanwhile.
        """
        rows = [after for _, after in found.moves.values()]
        self.market.ledger.record_auction(found.auction, rows, found.asked, found.rentals)
        for row in rows:
            self._book.adopt(row, found.auction)

    def remaining(self, steps: Collection[str]) -> RunOutline:
        """Returns the outline of these steps alone, free of dependencies on all others."""
        part = part_of(self.outline, steps)
        measured = (
            self._origins.placed(self.outputs.measured(step, step.step_key)) for step in part.steps
        )
        return replace(part, steps=tuple(measured))

    def identity(self, step_key: str) -> StepIdentity:
        """Returns what the step's history is kept by."""
        return self._step(step_key).identity

    def parents(self, step_key: str) -> tuple[str, ...]:
        """Returns the steps that must end before this one."""
        return self._step(step_key).depends_on

    def move(self, proposal: Cleared, moves: Sequence[Move]) -> None:
        """Writes the new awards and takes them over; the old ones are released with it.

        Raises:
            AwardTakenError: another run's auction has moved one of them meanwhile.
        """
        attempts = {move.award.request_id: move.before.attempt + 1 for move in moves}
        if not moves:
            return
        made = Counter(self._book.moves_made)
        made.update(m.award.request_id for m in moves if m.is_elsewhere and not m.is_forced)
        taken = commit(self.market, proposal, [move.award for move in moves], attempts, made)
        self._book.moves_made.update(made)
        for row in taken.values():
            self._book.adopt(row, proposal.auction)

    def floors(self) -> Mapping[str, int]:
        """Returns bytes by step key that attempts ended for memory have shown to be too few."""
        return dict(self._floors)

    def excluded(self) -> frozenset[str]:
        """Returns the CUs whose bids do not count for this run now."""
        return self._withdrawn.names()

    @property
    def lost_attempts(self) -> int:
        """How many attempts were lost so far through no fault of their own."""
        return sum(self._lost.values())

    # -- attempts that failed

    def retries_lost(self, step_key: str) -> bool:
        """Counts a lost attempt; whether the step is to be tried again."""
        self._lost[step_key] += 1
        return self._lost[step_key] < MAX_INFRASTRUCTURE_ATTEMPTS

    def times_lost(self, step_key: str) -> int:
        """Returns how many of the step's attempts were lost so far."""
        return self._lost[step_key]

    def renegotiate_revoked(self, lease: Allocation) -> None:
        """Holds a new auction for a step whose spot lease was taken back.

        From the second time on that CU's bids are left out for this step: it is not moved for ever.

        Raises:
            InvalidInputError, MarketUnavailableError: nobody can serve it.
        """
        self._revocations[lease.step_key] += 1
        is_often = self._revocations[lease.step_key] >= MAX_REVOCATIONS
        self._reauction(lease.step_key, {lease.resource_id} if is_often else frozenset())

    def retries_memory(self, step_key: str) -> bool:
        """Whether a step ended for memory is to be tried again with more."""
        spec = self._said[self._step(step_key).step_key]
        return spec.on_oom is not OnOom.FAIL and self._book.attempts[step_key] < MAX_MEMORY_ATTEMPTS

    def renegotiate_memory(self, lease: Allocation, measurement: Measurement) -> None:
        """Holds a new auction for a step ended for memory, with the bound it has shown.

        The next size is its own ladder's under its own risk; without enough history, twice.

        Raises:
            InvalidInputError: no CU is large enough.
        """
        step_key = lease.step_key
        largest = max(
            profile.memory_bytes
            for provider in self.market.providers.values()
            for profile in provider.pool().profiles
        )
        sized = self._size(self._measured(step_key))
        floor = next_after_oom(
            lease.size.memory_bytes,
            measurement.peak_memory_bytes,
            sized.forecast,
            risk=sized.spec.risk or Risk.BALANCED,
            largest_bytes=largest,
        )
        self._floors[step_key] = max(self._floors.get(step_key, 0), floor)
        self._reauction(step_key)

    def _reauction(self, step_key: str, without: Collection[str] = frozenset()) -> None:
        """Holds a new auction for a step. Where nobody serves it with those that it is kept with,
        and none of them has begun, they are auctioned with it: they may go elsewhere as a whole."""
        excluded = self.excluded().union(without)
        hold = partial(self._hold_anew, floors=self._floors, excluded=excluded)
        try:
            hold(self._alone(self._measured(step_key)))
        except (InvalidInputError, MarketUnavailableError):
            others = self.kept.others(step_key)
            if not others or not others.issubset(self.not_started()):
                raise
            hold(self.remaining({step_key, *others}))

    # -- details

    def _step(self, step_key: str) -> StepOutline:
        found = self._steps.get(step_key)
        return found if found is not None else self._steps[template_key(step_key)]

    def _size(self, step: StepOutline) -> SizedStep:
        """Returns what would be asked for a step now, as far as its history goes."""
        outline = self._alone(step)
        return self.market.size(outline, {}, self.market.now()).sized[step.step_key]

    def _alone(self, step: StepOutline) -> RunOutline:
        return replace(self.outline, steps=(step,), tags=tags_for(self.outline, step))

    def _measured(self, step_key: str) -> StepOutline:
        """Returns the step alone, with the size of its inputs as far as they are written."""
        step = self._origins.placed(self.outputs.measured(self._step(step_key), step_key))
        return replace(step, step_key=step_key, depends_on=())
