"""What is kept together is never parted: whatever fails, is auctioned again, or moved by others."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from hypothesis import event, given, settings
from hypothesis import strategies as st
from small_market import Fair

from cu_market.deo.executor.negotiation import Negotiation
from cu_market.domain.allocation import HOLDING, Allocation
from cu_market.domain.problem import CUMarketError
from cu_market.domain.usage import Ending, Measurement
from cu_market.ledger.errors import LeaseLostError
from cu_market.market.auction import Market
from cu_market.market.renegotiation.proposals import propose
from cu_market.market.renegotiation.replan import Situation, choose_moves

STEPS = ("s0", "s1", "s2")
USED = Measurement(wall_ms=1000, cpu_ms=1000, peak_memory_bytes=10**6)


@dataclass
class Going:
    """A run worker of three steps kept together, and what becomes of them."""

    fair: Fair
    run: Negotiation
    leases: dict[str, Allocation] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    others: int = 0

    def start(self, step: str) -> None:
        """Leases a step as a run worker does, unless it has ended well or runs."""
        if step in self.leases or step in self.places:
            return
        self.run.take_over()
        if self.run.kept.away_from(step):
            event("brought back")
            self.again(step)
            return
        award = self.run.award(step)
        self.fair.ledger.hold_run("a", "h", expires_at=self.fair.now + timedelta(hours=1))
        try:
            taken = self.run.lease(award, "holder")
        except LeaseLostError:
            return
        if isinstance(taken, Allocation):
            taken = self.fair.ledger.accept(taken.key, taken.fencing_token, now=self.fair.now)
            self.leases[step] = taken

    def end(self, step: str, ending: Ending) -> None:
        lease = self.leases.pop(step, None)
        if lease is not None:
            self.run.settle(lease, ending, USED)
            if ending is Ending.OK:
                self.places[step] = lease.provider

    def again(self, step: str) -> None:
        if step in self.leases or step in self.places:
            return
        try:
            self.run.award_elsewhere(step)
        except CUMarketError:
            event("nobody serves it there")

    def withdraw(self, step: str) -> None:
        """A CU does not deliver: it is counted for nothing, and the step is auctioned again."""
        if step not in self.leases:
            self.run.withdraw(self.run.award(step).resource_id)
            self.again(step)

    def hurry(self, _: str) -> None:
        """Another run of the account comes, and moves what it may."""
        self.others += 1
        try:
            self.fair.clear(
                f"b{self.others}", "20", deadline_seconds="25", max_price_usd_per_hour="2"
            )
        except CUMarketError:
            event("another run is not served")

    def leave(self, _: str) -> None:
        """The other runs are given up."""
        for number in range(1, self.others + 1):
            self.fair.ledger.release_awards(f"b{number}", now=self.fair.now)

    def review(self, _: str) -> None:
        """The run's own review, which knows every step that has not started."""
        self.run.take_over()
        steps = self.run.not_started()
        if not steps:
            return
        market: Market = self.fair.market
        try:
            found = propose(
                market,
                self.run.remaining(steps),
                Situation(earliest_ms={}),
                excluded=self.run.excluded(),
            )
        except CUMarketError:
            return
        moves, _ = choose_moves(
            found.plan,
            found.demand.requests,
            found.round.bids,
            {step: self.run.award(step) for step in steps},
            moves_made=self.run.moves_made,
            latest_finish_ms=None,
            least_microusd=0,
            located=self.run.kept.located(steps),
        )
        if moves:
            event("a review moves")
        self.run.move(found, moves)

    def check(self) -> None:
        """What runs or has ended well is in one place."""
        rows = self.fair.ledger.allocations(run_id="a", states=HOLDING)
        places = {row.provider for row in rows} | set(self.places.values())
        assert len(places) <= 1, places


ACTIONS = {
    "start": Going.start,
    "end": lambda going, step: going.end(step, Ending.OK),
    "fail": lambda going, step: going.end(step, Ending.ERROR),
    "lose": lambda going, step: going.end(step, Ending.LOST),
    "again": Going.again,
    "withdraw": Going.withdraw,
    "hurry": Going.hurry,
    "leave": Going.leave,
    "review": Going.review,
}


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(ACTIONS)), st.sampled_from(STEPS)),
        min_size=6,
        max_size=20,
    ),
    st.sampled_from([1, 2, 3]),
    st.sampled_from(["0", "100", "1000"]),
)
def test_what_is_kept_together_is_never_parted(
    actions: list[tuple[str, str]], cores: int, value: str
) -> None:
    fair = Fair(prices={"cheap": 1, "dear": 3, "also": 1}, cores=cores, is_apart=True)
    tags = {"together": "x", "value_of_time_usd_per_hour": value}
    cleared = fair.clear("a", "30", "30", "30", **tags)
    outline = fair.outline("a", "30", "30", "30", **tags)
    going = Going(fair, Negotiation(fair.market, outline, cleared.allocations, cleared.auction))
    for name, step in actions:
        fair.now += timedelta(seconds=1)
        ACTIONS[name](going, step)
        going.check()
    event(f"{len({row.provider for row in fair.rows('a')})} places over time")
