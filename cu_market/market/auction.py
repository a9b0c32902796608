"""The applier: snapshot, bids, plan, re-check, commit.

One auction:

1. read what is leased, and what other runs wait for (``crowd``);
2. read the run's tags, and the ledger's history of its steps: demand;
3. ask every provider for bids, in parallel, within a deadline;
4. plan by integer program (in the solver's own process, killed at its limit), with all that waits
   (``together``), on the market's and the run's terms (``terms``);
5. refuse, before anything is spent, what nobody can serve;
6. re-check every award against the bids and pools that stand; what was withdrawn is auctioned
   again among the rest (``rounds``);
7. move what the plan moves of other runs (``retender``);
8. write the auction and its awards in one transaction.

Awards hold no capacity; leases do, and the ledger checks that again when each is taken.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from cu_market.dnm.programs.solve import Solver
from cu_market.domain.allocation import Allocation
from cu_market.domain.auction import Auction
from cu_market.domain.outline import RunOutline
from cu_market.domain.plan import Plan
from cu_market.domain.rental import STANDING_RENTALS
from cu_market.domain.request import ResourceRequest, StepIdentity
from cu_market.domain.resources import ResourceVector
from cu_market.domain.spec import Mode
from cu_market.ledger.interface import Ledger
from cu_market.market.accounts.spending import left_microusd
from cu_market.market.awarding import allocation_of
from cu_market.market.companions import RunsCompanions
from cu_market.market.demand.champions import published_forecaster
from cu_market.market.demand.past import Past, read_past
from cu_market.market.demand.requests import Demand, read_specs, size_run
from cu_market.market.renting.offered import with_own_rentals, with_rentals
from cu_market.market.report import auction_report
from cu_market.market.rounds import Rounds
from cu_market.market.scores import measured_scores
from cu_market.market.settings import MarketSettings
from cu_market.market.terms import Terms
from cu_market.market.together.beside import (
    account_of,
    beside_others_or_late,
    with_queued,
)
from cu_market.market.together.crowd import NOBODY, Crowd, read_crowd
from cu_market.market.together.joint import Together
from cu_market.market.together.retender import open_requests, together_report, write_moves
from cu_market.market.unserved import MarketUnavailableError, refuse_late, unreached
from cu_market.pse.forecast import Forecaster
from cu_market.ral.bids import BidRound, collect_bids
from cu_market.ral.carrier import Carrier
from cu_market.ral.provider import Observant, Provider

NOTHING_RUNS: Mapping[StepIdentity, Sequence[float]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleared:
    """An auction's outcome.

    Attributes:
        auction: as the ledger keeps it.
        demand: what was asked.
        plan: who won and why.
        round: who bid.
        allocations: by step key, state AWARDED; empty when nothing was bought (recommend).
        seconds: of the whole auction.
        together: the plan with what else was planned; None where that is not kept.
    """

    auction: Auction
    demand: Demand
    plan: Plan
    round: BidRound
    allocations: Mapping[str, Allocation] = field(default_factory=dict)
    seconds: float = 0.0
    together: Together | None = None


class Market:
    """Holds auctions for one deployment.

    Args:
        settings: the configuration.
        ledger: where awards are written.
        providers: who is asked.
        solver: the integer program's solver, or None for construction only.
        forecaster: the PSE's, or None for the empirical one.
        carrier: reaches workers of providers that need one, or None.
        now: the clock.
    """

    def __init__(
        self,
        *,
        settings: MarketSettings,
        ledger: Ledger,
        providers: Sequence[Provider],
        solver: Solver | None = None,
        forecaster: Forecaster | None = None,
        carrier: Carrier | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.settings = settings
        self.ledger = ledger
        self.companions = RunsCompanions(ledger)
        self.providers = {provider.name: provider for provider in providers}
        self.solver = solver
        self._forecaster = forecaster
        self.carrier = carrier
        self.now = now

    def clear(
        self,
        outline: RunOutline,
        *,
        place: str,
        attempts: Mapping[str, int] | None = None,
        floors: Mapping[str, int] | None = None,
        excluded: Collection[str] = (),
        queued: Iterable[RunOutline] = (),
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Cleared:
        """Holds an auction for a run's steps and commits its awards.

        Args:
            outline: the run and the steps to be auctioned.
            place: ``launcher`` or ``executor``.
            attempts: the ledger attempt of each step's award; 1 unless given.
            floors: bytes by step key that an attempt ended for memory has shown to be too few.
            excluded: cu_ids whose bids do not count: they were awarded and did not deliver.
            queued: runs that will be launched next: planned with, awarded nothing.
            is_wanted: asked just before the commit; an auction that nobody waits for any more
                buys nothing.

        Raises:
            InvalidInputError: tags that cannot be read, or steps that nobody can serve, all of
                them, with every provider's reason. Nothing has been written.
            MarketUnavailableError: no provider answered, or one that has not may be who could
                serve what nobody else can.
            NoRoomYetError: what nobody can serve now, somebody may serve later.
        """
        began = time.monotonic()
        now = self.now()
        mode = self._mode(outline)
        crowd = with_queued(read_crowd(self.ledger, outline.run_id, now), self, queued, now)
        demand, bids = self.offers(outline, floors or {}, now, excluded, mode=mode, crowd=crowd)
        own = self.ledger.rentals(run_id=outline.run_id, states=STANDING_RENTALS)
        bids, crowd = with_own_rentals(own, bids, crowd, now, excluded)
        is_buying = mode is not Mode.RECOMMEND

        def planned(demand: Demand, bids: BidRound) -> Together:
            return beside_others_or_late(self, outline, demand, bids, crowd, may_move=is_buying)

        found, bids = self._rounds(planned, is_wanted).hold(demand, bids)
        outcome = found.plan
        refuse_late(is_wanted, "the auction")
        moved = write_moves(self.ledger, outline, found, bids, attempts or {}, now)
        auction_id = uuid.uuid4().hex
        rentals = [replace(rental, auction_id=auction_id) for rental in found.rentals]
        bids = with_rentals(bids, rentals)
        seconds = time.monotonic() - began
        report = auction_report(outline, demand, bids, outcome, seconds=seconds, ends=found.ends)
        if crowd.requests or crowd.apart or found.is_late:
            report["together"] = together_report(found, moved)
        auction = Auction(
            auction_id=auction_id,
            run_id=outline.run_id,
            held_at=now,
            mode=str(mode),
            place=place,
            report=report,
        )
        allocations = (
            {}
            if not is_buying
            else {
                award.request_id: allocation_of(
                    award,
                    outline.run_id,
                    auction_id,
                    (attempts or {}).get(award.request_id, 1),
                    now,
                    minimum_ms=bids.minimum_ms(award.bid_id),
                    valid_until=bids.valid_until(award.bid_id),
                )
                for award in outcome.awards
            }
        )
        asked = open_requests(outline, demand, account_of(demand), allocations)
        self.ledger.record_auction(
            auction, list(allocations.values()), asked, rentals if is_buying else ()
        )
        return Cleared(
            auction=auction,
            demand=demand,
            plan=outcome,
            round=bids,
            allocations=allocations,
            seconds=time.monotonic() - began,
        )

    def quote(
        self,
        outline: RunOutline,
        *,
        crowd: Crowd = NOBODY,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Cleared:
        """Returns what an auction would bring that moves nobody; writes nothing.

        Args:
            outline: the run.
            crowd: what else is asked of the pools; as if nobody else was there unless given.
            is_wanted: as of clear.

        Raises:
            InvalidInputError, MarketUnavailableError: as clear.
        """
        began = time.monotonic()
        now = self.now()
        demand, bids = self.offers(outline, {}, now, crowd=crowd)

        def planned(demand: Demand, bids: BidRound) -> Together:
            return beside_others_or_late(self, outline, demand, bids, crowd, may_move=False)

        found, bids = self._rounds(planned, is_wanted).hold(demand, bids)
        outcome = found.plan
        refuse_late(is_wanted, "the quote")
        bids = with_rentals(bids, found.rentals)
        seconds = time.monotonic() - began
        auction = Auction(
            auction_id="",
            run_id=outline.run_id,
            held_at=now,
            mode="quote",
            place="quote",
            report=auction_report(outline, demand, bids, outcome, seconds=seconds, ends=found.ends),
        )
        return Cleared(
            auction=auction,
            demand=demand,
            plan=outcome,
            round=bids,
            seconds=seconds,
            together=found,
        )

    def capacity(self, capacity_id: str, provider: str) -> ResourceVector:
        """Returns a capacity's total as its provider states it now; nothing where it is gone."""
        capacities = self.providers[provider].pool().capacities
        return capacities.get(capacity_id, ResourceVector())

    def offers(
        self,
        outline: RunOutline,
        floors: Mapping[str, int],
        now: datetime,
        excluded: Collection[str] = (),
        *,
        mode: Mode = Mode.RECOMMEND,
        crowd: Crowd = NOBODY,
        running_ms: Mapping[StepIdentity, Sequence[float]] = NOTHING_RUNS,
    ) -> tuple[Demand, BidRound]:
        """Returns the demand, and the bids that count for it; providers are asked for what others
        wait for too."""
        demand, bids = self._ask(outline, floors, now, running_ms, crowd)
        standing = tuple(
            bid
            for bid in bids.bids
            if bid.profile.cu_id not in excluded
            and (mode is Mode.RECOMMEND or not self._only_quotes(bid.provider))
        )
        return demand, replace(bids, bids=standing)

    @property
    def terms(self) -> Terms:
        """What plans are made on."""
        return Terms(settings=self.settings, solver=self.solver, clock=time.monotonic)

    def solve(self, demand: Demand, bids: BidRound, *, is_priced: bool = True) -> Plan:
        """Returns the plan of a demand at these bids as if nobody else was there; writes nothing.

        Args:
            demand: what is asked.
            bids: what is offered.
            is_priced: whether winners are priced as the market says; else each is priced as bid.
        """
        terms, capacities = self.terms, bids.pool.capacities
        found = terms.plan(demand, bids.bids, capacities)
        return terms.priced(found, demand, bids.bids, capacities) if is_priced else found

    def _rounds(
        self, solve: Callable[[Demand, BidRound], Together], is_wanted: Callable[[], bool]
    ) -> Rounds:
        return Rounds(
            providers=self.providers,
            solve=solve,
            now=self.now,
            deadline_seconds=self.settings.bid_deadline_seconds,
            is_wanted=is_wanted,
        )

    def _mode(self, outline: RunOutline) -> Mode:
        """Returns what is done with a run; where nobody can start anything, only shown."""
        if all(self._only_quotes(name) for name in self.providers):
            return Mode.RECOMMEND
        return read_specs(outline, self.providers)[0].mode or self.settings.mode

    def _only_quotes(self, provider: str) -> bool:
        return self.providers[provider].capabilities.quotes_only

    def _ask(
        self,
        outline: RunOutline,
        floors: Mapping[str, int],
        now: datetime,
        running_ms: Mapping[StepIdentity, Sequence[float]] = NOTHING_RUNS,
        crowd: Crowd = NOBODY,
    ) -> tuple[Demand, BidRound]:
        demand = self.size(outline, floors, now, running_ms)
        budget = demand.run.budget_microusd
        if budget is not None:
            rows = self.ledger.allocations(run_id=outline.run_id)
            rentals = self.ledger.rentals(run_id=outline.run_id)
            steps = {step.step_key for step in outline.steps}
            left = left_microusd(rows, budget, steps, now, rentals=rentals)
            demand = replace(demand, left_microusd=left)
        self._tell_use(outline.run_id)
        bids = self.ask((*demand.requests, *crowd.requests), now)
        is_broken = bool(bids.problems) or not self.providers  # else all answered: all is taken
        if not bids.bids and not bids.pool.profiles and is_broken:
            if not self.providers:
                raise MarketUnavailableError("no provider is configured", "name one in `providers`")
            reasons = "; ".join(str(p) for ps in bids.problems.values() for p in ps)
            seconds = self.settings.bid_deadline_seconds
            raise MarketUnavailableError(
                f"no provider answered within {seconds} s: {reasons}",
                unreached(", ".join(self.providers)),
            )
        return demand, bids

    def ask(self, requests: Sequence[ResourceRequest], now: datetime) -> BidRound:
        """Returns what every provider bids for these requests, scored as measured."""
        return collect_bids(
            list(self.providers.values()),
            requests,
            now=now,
            deadline_seconds=self.settings.bid_deadline_seconds,
            performance=measured_scores(self.ledger),
        )

    def size(
        self,
        outline: RunOutline,
        floors: Mapping[str, int],
        now: datetime,
        running_ms: Mapping[StepIdentity, Sequence[float]] = NOTHING_RUNS,
    ) -> Demand:
        """Returns what would be asked for a run's steps now, each where it must be kept.

        Raises:
            InvalidInputError: with every problem of every tag.
        """
        demand = size_run(
            outline,
            replace(self.past({step.identity for step in outline.steps}), running_ms=running_ms),
            now=now,
            settings=self.settings,
            largest=self._largest(),
            providers=self.providers,
            forecaster=self._forecaster
            or published_forecaster(
                self.ledger, {step.identity.code_location for step in outline.steps}
            ),
            floors=floors,
        )
        kept = self.companions.of(outline.run_id).kept(demand.requests)
        return replace(demand, requests=kept)

    def past(self, identities: Collection[StepIdentity], *, is_borrowing: bool = True) -> Past:
        """Returns what is known of these steps before they are sized; see read_past."""
        return read_past(self.ledger, identities, is_borrowing=is_borrowing)

    def _tell_use(self, run_id: str) -> None:
        """Tells providers whose prices follow use what is leased of them now: without what was
        bought ahead for this run, or gives way to it."""
        for provider in self.providers.values():
            if isinstance(provider, Observant):
                held = {name: self.ledger.held(name, run_id=run_id) for name in provider.observed}
                provider.observe(held)

    def _largest(self) -> ResourceVector | None:
        """Returns the largest CU that this machine's own providers have, if they say it at once."""
        local = self.providers.get("local")
        if local is None:
            return None
        sizes = [profile.size for profile in local.pool().profiles]
        return max(sizes, key=lambda size: size.memory_bytes, default=None)
