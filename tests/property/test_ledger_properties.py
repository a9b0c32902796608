"""Random histories: both twins answer alike, and the promises hold after every step."""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from ledger_rows import T0, an_award

from cu_market.domain.allocation import HOLDING, TRANSITIONS, Allocation, AllocationState
from cu_market.domain.auction import Auction
from cu_market.domain.lease import Refusal
from cu_market.domain.open_request import OpenRequest
from cu_market.domain.problem import CUMarketError
from cu_market.domain.request import ResourceRequest, StepIdentity
from cu_market.domain.resources import ResourceVector
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.ledger.interface import Ledger
from cu_market.ledger.memory import InMemoryLedger
from cu_market.ledger.moves import settled
from cu_market.ledger.sql import open_ledger

CAPACITY = {
    "x": ResourceVector(cpu_millis=3000, memory_bytes=3000),
    "y": ResourceVector(cpu_millis=1000, memory_bytes=9000, gpu_count=1),
}

runs = st.sampled_from(["r1", "r2"])
steps = st.sampled_from(["a", "b", "c"])
attempts = st.integers(1, 3)
keys = st.tuples(runs, steps, attempts)
tokens = st.integers(0, 12)
seconds = st.integers(0, 90)
sizes = st.builds(
    ResourceVector,
    cpu_millis=st.integers(0, 2000),
    memory_bytes=st.integers(0, 2000),
    gpu_count=st.integers(0, 1),
)


def usage_of(key: tuple[str, str, int], waited_ms: int | None, ended_at: datetime) -> Usage:
    return Usage(
        run_id=key[0],
        step_key=key[1],
        attempt=key[2],
        identity=StepIdentity(node=key[1]),
        provider="p",
        resource_id="cu",
        started_at=T0,
        ended_at=ended_at,
        cpu_millis=1,
        memory_bytes=1,
        measurement=Measurement(wall_ms=1, cpu_ms=100, peak_memory_bytes=1, waited_ms=waited_ms),
        ending=Ending.OK,
    )


def asked(run: str, step: str) -> OpenRequest:
    request = ResourceRequest(
        request_id=step, timestamp=T0, duration_ms=1, needs=ResourceVector(cpu_millis=1)
    )
    return OpenRequest(run_id=run, step_key=step, account="x", job_name="j", request=request)


class Twins(RuleBasedStateMachine):
    """Does the same to a ledger in memory and one in SQLite, with a clock that only grows."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        file = Path(self.directory.name) / "ledger.db"
        self.twins: tuple[Ledger, Ledger] = (InMemoryLedger(), open_ledger(f"sqlite:///{file}"))
        self.now = T0
        self.last_token = 0
        self.auctions = 0
        self.costs: dict[tuple[str, str, int], int | None] = {}
        self.states: dict[tuple[str, str, int], AllocationState] = {}

    def teardown(self) -> None:
        for twin in self.twins:
            twin.close()
        self.directory.cleanup()

    def both(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Returns the answer of both twins, which must be equal, errors and their words too."""
        answers: list[Any] = []
        for twin in self.twins:
            try:
                answers.append(getattr(twin, method)(*args, **kwargs))
            except CUMarketError as error:
                answers.append((type(error), str(error)))
        assert answers[0] == answers[1]
        return answers[0]

    def award(self, key: tuple[str, str, int], auction_id: str, **fields: Any) -> Allocation:
        defaults: dict[str, Any] = {
            "bid_id": "b",
            "provider": "p",
            "resource_id": "cu",
            "capacity_id": "x",
            "size": ResourceVector(cpu_millis=1000),
            "price_microusd_per_hour": 1_234_567,
            "expected_ms": 1,
            "awarded_at": self.now,
        }
        return Allocation(
            run_id=key[0],
            step_key=key[1],
            attempt=key[2],
            state=AllocationState.AWARDED,
            auction_id=auction_id,
            **(defaults | fields),
        )

    @rule(passed=st.integers(0, 60_000_000))
    def time_passes(self, passed: int) -> None:
        self.now += timedelta(microseconds=passed)

    @rule(run=runs, wanted=st.sets(st.tuples(steps, attempts), max_size=3), is_again=st.booleans())
    def record_auction(self, run: str, wanted: set[tuple[str, int]], is_again: bool) -> None:
        self.auctions += 0 if is_again else 1
        auction_id = f"auction-{self.auctions}"
        auction = Auction(
            auction_id=auction_id, run_id=run, held_at=self.now, mode="market", place="launcher"
        )
        rows = [self.award((run, *each), auction_id) for each in sorted(wanted)]
        self.both("record_auction", auction, rows, [asked(run, step) for step in "ab"])

    @rule(run=runs, wanted=st.sets(steps, min_size=1, max_size=3), attempt=st.integers(2, 3))
    def supersede(self, run: str, wanted: set[str], attempt: int) -> None:
        self.auctions += 1
        auction_id = f"auction-{self.auctions}"
        auction = Auction(
            auction_id=auction_id, run_id=run, held_at=self.now, mode="market", place="together"
        )
        rows = [self.award((run, step, attempt), auction_id) for step in sorted(wanted)]
        before = {step: self.twins[0].allocation((run, step, attempt - 1)) for step in wanted}
        taken = self.both("supersede", auction, rows, [asked(run, step) for step in wanted])
        for row in taken:
            had = before[row.step_key]
            assert had is not None
            assert had.state is AllocationState.AWARDED
            now = self.twins[0].allocation(had.key)
            assert now is not None
            assert now.state is AllocationState.RELEASED  # which nothing leaves

    @rule(key=keys, capacity_id=st.sampled_from(["x", "y"]), size=sizes, length=seconds)
    def lease(
        self, key: tuple[str, str, int], capacity_id: str, size: ResourceVector, length: int
    ) -> None:
        wanted = self.award(key, "none", capacity_id=capacity_id, size=size)
        before = self.twins[0].allocation(key)
        held = self.twins[0].held(capacity_id)
        answer = self.both(
            "lease",
            wanted,
            capacity=CAPACITY[capacity_id],
            expires_at=self.now + timedelta(seconds=length),
            now=self.now,
        )
        if isinstance(answer, Allocation) and answer == before:
            assert (answer.state, answer.leased_at) == (AllocationState.LEASED, self.now)
        elif isinstance(answer, Allocation):
            assert answer.fencing_token > self.last_token
            self.last_token = answer.fencing_token
        elif isinstance(answer, Refusal):
            assert (held + size).exceeds(CAPACITY[capacity_id])

    @rule(key=keys, token=tokens)
    def accept(self, key: tuple[str, str, int], token: int) -> None:
        self.both("accept", key, token, now=self.now)

    @rule(key=keys, is_right=st.booleans(), added=sizes, price=st.integers(0, 9_999_999))
    def grow(
        self, key: tuple[str, str, int], is_right: bool, added: ResourceVector, price: int
    ) -> None:
        row = self.twins[0].allocation(key)
        lease = row if row is not None and is_right else self.award(key, "none", fencing_token=7)
        size = lease.size + added
        held = self.twins[0].held(lease.capacity_id)
        answer = self.both(
            "grow",
            lease,
            size=size,
            price_microusd_per_hour=price,
            capacity=CAPACITY[lease.capacity_id],
            now=self.now,
        )
        if isinstance(answer, Refusal):
            assert (held + added).exceeds(CAPACITY[lease.capacity_id])
        elif isinstance(answer, Allocation):
            assert (answer.size, answer.price_microusd_per_hour) == (size, price)
            # What it costs until now is what it would have cost without growing.
            assert row is not None
            if not row.minimum_ms:
                assert answer.cost_until(self.now) == row.cost_until(self.now)

    @rule(key=keys, is_right=st.booleans(), token=tokens, waited=st.none() | st.integers(0, 99))
    def settle(
        self, key: tuple[str, str, int], is_right: bool, token: int, waited: int | None
    ) -> None:
        row = self.twins[0].allocation(key)
        used = len(self.twins[0].usages())
        token = row.fencing_token if row is not None and is_right else token
        answer = self.both(
            "settle", key, token, ended_at=self.now, usage=usage_of(key, waited, self.now)
        )
        was_settled = row is not None and row.state is AllocationState.SETTLED
        is_new = isinstance(answer, Allocation) and not was_settled
        assert len(self.twins[1].usages()) == used + is_new

    @rule(chosen=st.sets(keys, max_size=3), holder=st.sampled_from(["h1", "h2"]))
    def hold(self, chosen: set[tuple[str, str, int]], holder: str) -> None:
        self.both("hold", chosen, holder)

    @rule(run=runs, length=seconds)
    def renew(self, run: str, length: int) -> None:
        self.both("renew", run, expires_at=self.now + timedelta(seconds=length))

    @rule(key=keys)
    def release(self, key: tuple[str, str, int]) -> None:
        self.both("release", key, now=self.now)

    @rule(run=runs, method=st.sampled_from(["release_awards", "revoke", "end_run"]))
    def end(self, run: str, method: str) -> None:
        self.both(method, run, now=self.now)

    @rule()
    def expire(self) -> None:
        self.both("expire", now=self.now)

    @rule(tolerance=seconds)
    def tick(self, tolerance: int) -> None:
        self.both("tick", now=self.now, tolerance=timedelta(seconds=tolerance))

    @rule(run=runs, holder=st.sampled_from(["h1", "h2"]), length=seconds)
    def hold_run(self, run: str, holder: str, length: int) -> None:
        self.both("hold_run", run, holder, expires_at=self.now + timedelta(seconds=length))

    @rule(limit=st.integers(0, 3))
    def read_the_past(self, limit: int) -> None:
        self.both("history", [StepIdentity(node=step) for step in "ab"], limit=limit)
        self.both("usages", run_id="r1", limit=limit)
        self.both("delivered", limit=limit)
        self.both("auctions", "r1", limit)
        self.both("allocations", states=HOLDING, limit=limit)

    @invariant()
    def everything_is_equal_and_the_promises_hold(self) -> None:
        rows = self.both("allocations")
        self.both("usages")
        self.both("auctions")
        self.both("live_runs")
        self.both("standing")
        for run in ("r1", "r2"):
            self.both("run_lease", run)
        for capacity_id, capacity in CAPACITY.items():
            held = self.both("held", capacity_id)
            live = [r.size for r in rows if r.state in HOLDING and r.capacity_id == capacity_id]
            assert held == sum(live, ResourceVector())
            assert held.fits_in(capacity)
        given = [row.fencing_token for row in rows if row.fencing_token]
        assert len(given) == len(set(given))
        for row in rows:
            self.moved_along_the_table(row)
            assert (row.cost_microusd is not None) == (row.state is AllocationState.SETTLED)
            assert self.costs.setdefault(row.key, row.cost_microusd) in (None, row.cost_microusd)
            self.costs[row.key] = row.cost_microusd

    def moved_along_the_table(self, row: Allocation) -> None:
        before = self.states.get(row.key, row.state)
        reachable = {before} | TRANSITIONS[before]
        # Revoking a run takes awards and leases one step each; nothing takes two at once.
        assert row.state in reachable
        self.states[row.key] = row.state


TestTwins = Twins.TestCase
TestTwins.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@given(price=st.integers(0, 10**13), held_us=st.integers(0, 10**14))
def test_cost_is_the_exact_product_rounded_half_even_once(price: int, held_us: int) -> None:
    row = an_award(
        "r",
        "s",
        state=AllocationState.LEASED,
        price_microusd_per_hour=price,
        fencing_token=1,
        leased_at=T0,
    )
    done = settled(row, row.key, 1, T0 + timedelta(microseconds=held_us))
    # Fraction's round is half-even, exact, and knows nothing of the ledger's integers.
    assert done.cost_microusd == round(Fraction(price) * held_us / 3_600_000_000)
