"""What every ledger promises, shown on each.

In memory, on SQLite, on PostgreSQL, and on PostgreSQL behind a pooler, where there are these.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.curve import UsageCurve
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.publication import Publication
from cu_market.domain.request import StepIdentity
from cu_market.domain.resources import ResourceVector
from cu_market.domain.tender import Tender
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.ledger.interface import (
    AllocationKey,
    Auction,
    LeaseLostError,
    Ledger,
    LedgerError,
    Refusal,
    RunLease,
)
from cu_market.ledger.memory import InMemoryLedger
from cu_market.ledger.sql import open_ledger

T0 = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SIZE = ResourceVector(cpu_millis=1000, memory_bytes=2**30)
ROOM_FOR_TWO = ResourceVector(cpu_millis=2000, memory_bytes=2**33)


KINDS = [
    "memory",
    "sqlite",
    pytest.param("postgres", marks=pytest.mark.postgres),
    pytest.param("pgbouncer", marks=pytest.mark.pgbouncer),
]


@pytest.fixture(params=KINDS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    if request.param == "memory":
        yield InMemoryLedger()
        return
    is_file = request.param == "sqlite"
    file = f"sqlite:///{tmp_path / 'ledger.db'}"
    url = file if is_file else request.getfixturevalue(f"{request.param}_url")
    opened = open_ledger(url)
    yield opened
    opened.close()


def award(step: str = "a", attempt: int = 1, run: str = "run", **fields: Any) -> Allocation:
    defaults: dict[str, Any] = {
        "state": AllocationState.AWARDED,
        "auction_id": "auction-1",
        "bid_id": "bid-1",
        "provider": "local",
        "resource_id": "local/standard",
        "capacity_id": "local",
        "size": SIZE,
        "price_microusd_per_hour": 3_600_000,
        "expected_ms": 1000,
        "awarded_at": T0,
    }
    return Allocation(run_id=run, step_key=step, attempt=attempt, **(defaults | fields))


def auction(auction_id: str = "auction-1", run: str = "run", **fields: Any) -> Auction:
    defaults: dict[str, Any] = {"held_at": T0, "mode": "market", "place": "launcher"}
    return Auction(auction_id=auction_id, run_id=run, **(defaults | fields))


def usage(key: AllocationKey = ("run", "a", 1), **fields: Any) -> Usage:
    run_id, step_key, attempt = key
    defaults: dict[str, Any] = {
        "identity": StepIdentity(code_location="here", node=step_key),
        "provider": "local",
        "resource_id": "local/standard",
        "started_at": T0,
        "ended_at": T0 + MINUTE,
        "cpu_millis": 1000,
        "memory_bytes": 2**30,
        "measurement": Measurement(
            wall_ms=60_000, cpu_ms=900, peak_memory_bytes=2**29, waited_ms=100
        ),
        "ending": Ending.OK,
    }
    return Usage(run_id=run_id, step_key=step_key, attempt=attempt, **(defaults | fields))


def lease(ledger: Ledger, allocation: Allocation, **fields: Any) -> Allocation:
    terms: dict[str, Any] = {"capacity": ROOM_FOR_TWO, "expires_at": T0 + MINUTE, "now": T0}
    given = ledger.lease(allocation, **(terms | fields))
    assert isinstance(given, Allocation)
    return given


def settled(ledger: Ledger, step: str, **fields: Any) -> Usage:
    """Leases and settles an attempt with this usage."""
    attempt = fields.pop("attempt", 1)
    given = lease(ledger, award(step, attempt))
    used = usage(given.key, **fields)
    ledger.settle(given.key, given.fencing_token, ended_at=T0 + MINUTE, usage=used)
    return used


class TestAuctions:
    def test_an_auction_and_its_awards_are_read_as_written(self, ledger: Ledger) -> None:
        report = {"gap": 0.25, "bids": [{"a": None, "b": [1, 2]}], "text": "größer ≥"}
        held, awards = auction(report=report), [award("a"), award("b", holder="x")]
        ledger.record_auction(held, awards)
        assert ledger.auctions() == [held]
        assert ledger.allocations(run_id="run") == [awards[1], awards[0]]
        assert ledger.allocation(("run", "a", 1)) == awards[0]
        assert ledger.allocation(("run", "a", 2)) is None

    def test_recording_again_changes_nothing(self, ledger: Ledger) -> None:
        ledger.record_auction(auction(), [award()])
        given = lease(ledger, award())
        ledger.record_auction(auction(place="executor"), [award(), award("more")])
        assert ledger.auctions() == [auction()]
        assert ledger.allocations() == [given]

    def test_a_later_auction_releases_awards_of_the_same_steps_only(self, ledger: Ledger) -> None:
        ledger.record_auction(auction(), [award("a"), award("b"), award("c")])
        lease(ledger, award("c"))
        second = auction("auction-2", held_at=T0 + MINUTE)
        rows = [award(step, 2, auction_id="auction-2") for step in ("a", "c")]
        ledger.record_auction(second, rows)
        first = ledger.allocation(("run", "a", 1))
        assert first is not None
        assert (first.state, first.ended_at) == (AllocationState.RELEASED, T0 + MINUTE)
        assert first.cost_microusd is None
        states = {row.key: row.state for row in ledger.allocations()}
        assert states[("run", "b", 1)] is AllocationState.AWARDED
        assert states[("run", "c", 1)] is AllocationState.LEASED
        assert states[("run", "a", 2)] is states[("run", "c", 2)] is AllocationState.AWARDED

    def test_an_award_whose_key_exists_is_refused_with_all_of_its_auction(
        self, ledger: Ledger
    ) -> None:
        ledger.record_auction(auction(), [award("a"), award("b")])
        second = [award(step, auction_id="auction-2") for step in ("c", "a", "b")]
        with pytest.raises(LedgerError, match=r"'a' attempt 1 was awarded by.*'b' attempt 1"):
            ledger.record_auction(auction("auction-2"), second)
        assert [each.auction_id for each in ledger.auctions()] == ["auction-1"]
        assert ledger.allocation(("run", "c", 1)) is None
        first = ledger.allocation(("run", "a", 1))
        assert first is not None
        assert first.state is AllocationState.AWARDED

    def test_everything_wrong_with_an_auction_is_said_at_once(self, ledger: Ledger) -> None:
        wrong = [
            award("a", state=AllocationState.LEASED),
            award("b", auction_id="other"),
            award("c", run="another run"),
            award("d"),
            award("d"),
        ]
        with pytest.raises(InvalidInputError) as caught:
            ledger.record_auction(auction(), wrong)
        assert len(caught.value.problems) == 4
        with pytest.raises(InvalidInputError, match="has no time zone"):
            ledger.record_auction(auction(held_at=datetime(2026, 1, 1)), [])
        with pytest.raises(InvalidInputError, match="not JSON"):
            ledger.record_auction(auction(report={"x": float("nan")}), [])
        assert ledger.auctions() == []

    def test_auctions_come_newest_first_and_limited(self, ledger: Ledger) -> None:
        for number, run in enumerate(["r1", "r2", "r1"]):
            held_at = T0 + number * MINUTE
            ledger.record_auction(auction(f"auction-{number}", run, held_at=held_at), [])
        assert [a.auction_id for a in ledger.auctions("r1")] == ["auction-2", "auction-0"]
        assert [a.auction_id for a in ledger.auctions(limit=2)] == ["auction-2", "auction-1"]


class TestLeases:
    def test_an_award_becomes_a_lease_with_a_token(self, ledger: Ledger) -> None:
        ledger.record_auction(auction(), [award()])
        given = lease(ledger, award(auction_id="ignored", holder="h/1/2"))
        assert given == ledger.allocation(given.key)
        assert given == award(
            state=AllocationState.LEASED,
            fencing_token=given.fencing_token,
            leased_at=T0,
            lease_expires_at=T0 + MINUTE,
            holder="h/1/2",
        )
        assert given.fencing_token > 0

    def test_terms_agreed_since_the_award_replace_it(self, ledger: Ledger) -> None:
        ledger.record_auction(auction(), [award()])
        larger = ResourceVector(cpu_millis=1500, memory_bytes=2**31, gpu_count=1)
        capacity = ResourceVector(cpu_millis=2000, memory_bytes=2**32, gpu_count=2)
        terms = {"size": larger, "capacity_id": "other", "price_microusd_per_hour": 7}
        given = lease(ledger, award(**terms), capacity=capacity)
        assert ledger.allocation(given.key) == given
        assert ledger.held("other") == larger
        assert ledger.held("local") == ResourceVector()

    def test_a_lease_without_an_award_is_written_at_once(self, ledger: Ledger) -> None:
        given = lease(ledger, award("mapped[7]"))
        assert ledger.allocations(states=[AllocationState.LEASED]) == [given]

    def test_a_full_capacity_refuses_and_leaves_everything(self, ledger: Ledger) -> None:
        ledger.record_auction(auction(), [award(step) for step in "abc"])
        first = lease(ledger, award("a"))
        lease(ledger, award("b"))
        refused = ledger.lease(award("c"), capacity=ROOM_FOR_TWO, expires_at=T0 + MINUTE, now=T0)
        assert refused == Refusal(
            capacity_id="local",
            short_of=("cpu_millis",),
            free=ResourceVector(memory_bytes=2**33 - 2**31),
        )
        assert ledger.allocation(("run", "c", 1)) == award("c")
        ledger.settle(first.key, first.fencing_token, ended_at=T0, usage=None)
        assert lease(ledger, award("c")).state is AllocationState.LEASED
        assert ledger.held("local") == SIZE.times(2)

    def test_capacities_are_apart(self, ledger: Ledger) -> None:
        for step, capacity_id in (("a", "x"), ("b", "x"), ("c", "y")):
            lease(ledger, award(step, capacity_id=capacity_id))
        assert (ledger.held("x"), ledger.held("y")) == (SIZE.times(2), SIZE)

    @pytest.mark.parametrize("ended", ["leased", "accepted", "settled", "released", "revoked"])
    def test_a_row_in_another_state_is_not_leased_again(self, ledger: Ledger, ended: str) -> None:
        given = lease(ledger, award())
        if ended == "accepted":
            ledger.accept(given.key, given.fencing_token, now=T0)
        elif ended == "settled":
            ledger.settle(given.key, given.fencing_token, ended_at=T0, usage=None)
        elif ended == "released":
            ledger.release(given.key, now=T0)
        elif ended == "revoked":
            ledger.revoke("run", now=T0)
        with pytest.raises(LeaseLostError, match=f"{ended.upper()} cannot become LEASED"):
            lease(ledger, award(), now=T0 + timedelta(microseconds=1))

    @pytest.mark.parametrize("is_awarded", [True, False])
    def test_the_same_call_made_again_returns_its_lease(
        self, ledger: Ledger, is_awarded: bool
    ) -> None:
        if is_awarded:
            ledger.record_auction(auction(), [award()])
        given = lease(ledger, award(), capacity=SIZE)
        assert lease(ledger, award(), capacity=SIZE) == given
        assert ledger.held("local") == SIZE
        for changed in ({"price_microusd_per_hour": 1}, {"holder": "another/1/2"}):
            with pytest.raises(LeaseLostError, match="LEASED cannot become LEASED"):
                lease(ledger, award(**changed))
        with pytest.raises(LeaseLostError, match="LEASED cannot become LEASED"):
            lease(ledger, award(), expires_at=T0 + 2 * MINUTE)

    def test_tokens_only_grow_over_runs_and_ends(self, ledger: Ledger) -> None:
        tokens = []
        for attempt in range(1, 6):
            given = lease(ledger, award(attempt=attempt, run=f"run-{attempt % 2}"))
            tokens.append(given.fencing_token)
            ledger.release(given.key, now=T0)
        assert tokens == sorted(set(tokens))

    def test_threads_racing_for_one_place_get_one_lease(self, ledger: Ledger) -> None:
        start, given = threading.Barrier(8), []

        def race(number: int) -> None:
            start.wait()
            answer = ledger.lease(
                award(f"step-{number}"), capacity=SIZE, expires_at=T0 + MINUTE, now=T0
            )
            given.append(isinstance(answer, Allocation))

        threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(given) == [False] * 7 + [True]

    def test_naive_times_are_refused(self, ledger: Ledger) -> None:
        with pytest.raises(InvalidInputError, match="has no time zone"):
            lease(ledger, award(), now=datetime(2026, 1, 1))
        with pytest.raises(InvalidInputError, match="has no time zone"):
            lease(ledger, award(), expires_at=datetime(2026, 1, 1))
        assert ledger.allocations() == []

    def test_times_of_any_zone_are_the_same_instant(self, ledger: Ledger) -> None:
        local = (T0 + MINUTE).astimezone(timezone(timedelta(hours=5, minutes=30)))
        given = lease(ledger, award(), expires_at=local)
        row = ledger.allocation(given.key)
        assert row is not None
        assert row.lease_expires_at == T0 + MINUTE


class TestAcceptAndHold:
    def test_the_holder_of_the_token_accepts_and_may_say_so_twice(self, ledger: Ledger) -> None:
        given = lease(ledger, award())
        accepted = ledger.accept(given.key, given.fencing_token, now=T0 + MINUTE)
        assert accepted == replace(given, state=AllocationState.ACCEPTED, accepted_at=T0 + MINUTE)
        again = ledger.accept(given.key, given.fencing_token, now=T0 + 2 * MINUTE)
        assert again == accepted == ledger.allocation(given.key)

    def test_a_wrong_token_or_no_lease_is_lost(self, ledger: Ledger) -> None:
        ledger.record_auction(auction(), [award("b")])
        given = lease(ledger, award())
        with pytest.raises(LeaseLostError, match="is not the lease's"):
            ledger.accept(given.key, given.fencing_token + 1, now=T0)
        with pytest.raises(LeaseLostError, match="no such attempt"):
            ledger.accept(("run", "a", 2), given.fencing_token, now=T0)
        with pytest.raises(LeaseLostError, match="nothing was ever leased"):
            ledger.accept(("run", "b", 1), 0, now=T0)
        assert ledger.allocation(given.key) == given

    def test_what_expired_cannot_be_accepted(self, ledger: Ledger) -> None:
        given = lease(ledger, award())
        ledger.expire(now=T0 + MINUTE)
        with pytest.raises(LeaseLostError, match="EXPIRED cannot become ACCEPTED"):
            ledger.accept(given.key, given.fencing_token, now=T0)

    def test_the_holder_of_live_leases_is_written(self, ledger: Ledger) -> None:
        given = lease(ledger, award("a"))
        ended = lease(ledger, award("b"))
        ledger.release(ended.key, now=T0)
        ledger.hold([given.key, ended.key, ("run", "unknown", 1)], "host/1/2")
        ledger.hold([], "nobody")
        holders = {row.step_key: row.holder for row in ledger.allocations()}
        assert holders == {"a": "host/1/2", "b": ""}


class TestRenewAndEnd:
    def test_renewing_extends_the_runs_leases_and_shortens_none(self, ledger: Ledger) -> None:
        short = lease(ledger, award("a"))
        long = lease(ledger, award("b"), expires_at=T0 + 9 * MINUTE)
        other = lease(ledger, award("a", run="other"), capacity=SIZE.times(9))
        assert ledger.renew("run", expires_at=T0 + 5 * MINUTE) == 2
        ends = {row.key: row.lease_expires_at for row in ledger.allocations()}
        assert ends[short.key] == T0 + 5 * MINUTE
        assert ends[long.key] == T0 + 9 * MINUTE
        assert ends[other.key] == T0 + MINUTE
        assert ledger.renew("nobody", expires_at=T0) == 0

    def test_expiry_ends_leases_when_they_expired(self, ledger: Ledger) -> None:
        due = lease(ledger, award("a"))
        alive = lease(ledger, award("b"), expires_at=T0 + 9 * MINUTE)
        assert ledger.expire(now=T0 + MINUTE - timedelta(microseconds=1)) == []
        expired = ledger.expire(now=T0 + 5 * MINUTE)
        assert expired == [replace(due, state=AllocationState.EXPIRED, ended_at=T0 + MINUTE)]
        assert ledger.expire(now=T0 + 5 * MINUTE) == expired  # whoever saw them first may have died
        ledger.settle(due.key, due.fencing_token, ended_at=T0 + 5 * MINUTE, usage=None)
        assert ledger.expire(now=T0 + 5 * MINUTE) == []
        assert ledger.allocation(alive.key) == alive
        assert ledger.held("local") == SIZE

    def test_release_takes_awards_and_leases_without_cost(self, ledger: Ledger) -> None:
        ledger.record_auction(auction(), [award("a")])
        given, accepted = lease(ledger, award("b")), lease(ledger, award("c"))
        accepted = ledger.accept(accepted.key, accepted.fencing_token, now=T0)
        for step in ("a", "b", "c", "unknown"):
            ledger.release(("run", step, 1), now=T0 + MINUTE)
        rows = {row.step_key: row for row in ledger.allocations()}
        assert rows["a"].state is rows["b"].state is AllocationState.RELEASED
        assert rows["b"] == replace(given, state=AllocationState.RELEASED, ended_at=T0 + MINUTE)
        assert rows["c"] == accepted

    def test_releasing_awards_leaves_leases(self, ledger: Ledger) -> None:
        ledger.record_auction(auction(), [award(step) for step in "abc"])
        given = lease(ledger, award("c"))
        assert ledger.release_awards("run", now=T0 + MINUTE) == 2
        assert ledger.release_awards("run", now=T0 + MINUTE) == 0
        assert ledger.allocation(given.key) == given

    def test_revoking_a_run_ends_its_leases_and_awards(self, ledger: Ledger) -> None:
        ledger.record_auction(auction(), [award("a")])
        leased = lease(ledger, award("b"))
        accepted = lease(ledger, award("c"))
        accepted = ledger.accept(accepted.key, accepted.fencing_token, now=T0)
        other = lease(ledger, award("a", run="other"), capacity=SIZE.times(9))
        end = {"state": AllocationState.REVOKED, "ended_at": T0 + MINUTE}
        revoked = [replace(accepted, **end), replace(leased, **end)]
        assert ledger.revoke("run", now=T0 + MINUTE) == revoked
        assert ledger.revoke("run", now=T0 + 2 * MINUTE) == revoked
        for row in revoked:
            ledger.settle(row.key, row.fencing_token, ended_at=T0 + 2 * MINUTE, usage=None)
        assert ledger.revoke("run", now=T0 + 2 * MINUTE) == []
        released = ledger.allocation(("run", "a", 1))
        assert released is not None
        assert released.state is AllocationState.RELEASED
        assert ledger.allocation(other.key) == other


class TestSettle:
    @pytest.mark.parametrize(
        ("price", "held", "cost"),
        [
            (3_600_000, timedelta(seconds=1), 1_000),
            (3_600_000, timedelta(microseconds=500), 0),  # half a micro-dollar, to even
            (3_600_000, timedelta(microseconds=1500), 2),
            (3_600_000, timedelta(microseconds=2500), 2),
            (3_600_000, timedelta(microseconds=2501), 3),
            (1, timedelta(hours=1000), 1_000),
            (10**12, timedelta(days=365), 8760 * 10**12),
            (3_600_000, timedelta(seconds=-5), 0),  # a clock that was set back
        ],
    )
    def test_cost_is_price_times_time_rounded_half_even_once(
        self, ledger: Ledger, price: int, held: timedelta, cost: int
    ) -> None:
        given = lease(ledger, award(price_microusd_per_hour=price))
        done = ledger.settle(given.key, given.fencing_token, ended_at=T0 + held, usage=None)
        assert done == ledger.allocation(given.key)
        assert (done.state, done.cost_microusd) == (AllocationState.SETTLED, cost)
        assert done.ended_at == T0 + held

    def test_settling_twice_bills_and_learns_once(self, ledger: Ledger) -> None:
        given = lease(ledger, award())
        ledger.accept(given.key, given.fencing_token, now=T0)
        first = ledger.settle(given.key, given.fencing_token, ended_at=T0 + MINUTE, usage=usage())
        second = ledger.settle(
            given.key, given.fencing_token, ended_at=T0 + 2 * MINUTE, usage=usage(cpu_millis=7)
        )
        assert first == second == ledger.allocation(given.key)
        assert ledger.usages() == [usage()]

    @pytest.mark.parametrize("end", ["expire", "revoke"])
    def test_an_ended_lease_is_billed_until_its_end(self, ledger: Ledger, end: str) -> None:
        given = lease(ledger, award())
        if end == "expire":
            ledger.expire(now=T0 + 5 * MINUTE)
        else:
            ledger.revoke("run", now=T0 + MINUTE)
        done = ledger.settle(
            given.key, given.fencing_token, ended_at=T0 + 9 * MINUTE, usage=usage()
        )
        assert (done.ended_at, done.cost_microusd) == (T0 + MINUTE, 60_000)
        assert ledger.usages() == [usage()]

    def test_a_wrong_token_or_nothing_leased_is_lost(self, ledger: Ledger) -> None:
        ledger.record_auction(auction(), [award("b")])
        given = lease(ledger, award())
        released = lease(ledger, award("c"))
        ledger.release(released.key, now=T0)
        lost = [
            (given.key, given.fencing_token + 1),
            (("run", "b", 1), 0),
            (("run", "unknown", 1), 1),
            (released.key, released.fencing_token),
        ]
        for key, token in lost:
            with pytest.raises(LeaseLostError):
                ledger.settle(key, token, ended_at=T0, usage=usage(key))
        assert ledger.usages() == []
        assert ledger.allocation(given.key) == given

    def test_another_attempts_usage_is_refused(self, ledger: Ledger) -> None:
        given = lease(ledger, award())
        with pytest.raises(InvalidInputError, match="belongs to another attempt"):
            ledger.settle(given.key, given.fencing_token, ended_at=T0, usage=usage(("run", "a", 2)))
        assert ledger.allocation(given.key) == given


class TestClock:
    def test_leases_do_not_expire_while_the_control_plane_is_down(self, ledger: Ledger) -> None:
        tolerance = timedelta(seconds=30)
        assert ledger.tick(now=T0, tolerance=tolerance) == timedelta(0)
        given = lease(ledger, award("a"))
        ended = lease(ledger, award("b"))
        ledger.release(ended.key, now=T0)
        ledger.hold_run("run", "h", expires_at=T0 + MINUTE)
        ledger.hold_run("gone", "h", expires_at=T0 + MINUTE)
        ledger.end_run("gone", now=T0)
        assert ledger.tick(now=T0 + tolerance, tolerance=tolerance) == timedelta(0)
        back = T0 + tolerance + 10 * MINUTE
        assert ledger.tick(now=back, tolerance=tolerance) == 10 * MINUTE
        ends = {row.key: row.lease_expires_at for row in ledger.allocations()}
        assert ends == {given.key: T0 + 11 * MINUTE, ended.key: T0 + MINUTE}
        run, gone = ledger.run_lease("run"), ledger.run_lease("gone")
        assert run is not None
        assert gone is not None
        assert (run.expires_at, gone.expires_at) == (T0 + 11 * MINUTE, T0 + MINUTE)
        assert ledger.expire(now=back) == []
        assert ledger.tick(now=back, tolerance=tolerance) == timedelta(0)

    def test_a_clock_that_is_behind_changes_nothing(self, ledger: Ledger) -> None:
        ledger.tick(now=T0, tolerance=MINUTE)
        assert ledger.tick(now=T0 - 9 * MINUTE, tolerance=MINUTE) == timedelta(0)
        assert ledger.tick(now=T0 + MINUTE, tolerance=MINUTE) == timedelta(0)


class TestHistory:
    def test_newest_attempts_of_each_identity(self, ledger: Ledger) -> None:
        wanted = StepIdentity(code_location="here", node="n", partition="p")
        others = [
            StepIdentity(code_location="there", node="n", partition="p"),
            StepIdentity(code_location="here", node="m", partition="p"),
            StepIdentity(code_location="here", node="n", partition="q"),
        ]
        rows = [
            settled(ledger, "a", attempt=number, identity=wanted, ended_at=T0 + number * MINUTE)
            for number in (1, 3, 2, 4)
        ]
        for number, identity in enumerate(others):
            settled(ledger, f"other-{number}", identity=identity)
        found = ledger.history([wanted, wanted, others[1], StepIdentity(node="none")], limit=3)
        assert set(found) == {wanted, others[1]}
        assert list(found[wanted]) == [rows[3], rows[1], rows[2]]
        assert len(found[others[1]]) == 1
        assert ledger.history([]) == {}

    def test_every_field_of_a_usage_is_read_as_written(self, ledger: Ledger) -> None:
        full = settled(
            ledger,
            "a",
            identity=StepIdentity(code_location="x", node="a+b", partition="2026|ü"),
            code_version="v1",
            job_name="job",
            measurement=Measurement(
                wall_ms=1,
                cpu_ms=2,
                peak_memory_bytes=2**45,
                baseline_bytes=4,
                read_bytes=5,
                written_bytes=6,
                waited_ms=None,
            ),
            ending=Ending.OUT_OF_MEMORY,
            input_bytes=0,
            external=True,
        )
        assert ledger.usages() == [full]
        assert ledger.usages(run_id="other") == []

    def test_usages_come_newest_first_and_limited(self, ledger: Ledger) -> None:
        rows = [settled(ledger, f"s{n}", ended_at=T0 + n * MINUTE) for n in (1, 3, 2)]
        assert ledger.usages(run_id="run") == [rows[1], rows[2], rows[0]]
        assert ledger.usages(limit=1) == [rows[1]]

    def test_delivered_shares_by_cu(self, ledger: Ledger) -> None:
        def share(waited_ms: int | None) -> Measurement:
            return Measurement(wall_ms=1, cpu_ms=100, peak_memory_bytes=1, waited_ms=waited_ms)

        for number, (cu, waited) in enumerate(
            [("x", 0), ("y", 100), ("x", 300), ("x", None), ("x", 100), ("z", None)]
        ):
            settled(
                ledger,
                f"s{number}",
                resource_id=cu,
                measurement=share(waited),
                ended_at=T0 + number * MINUTE,
            )
        shares = {cu: list(values) for cu, values in ledger.delivered(limit=2).items()}
        assert shares == {"x": [500, 250], "y": [500]}


class TestReading:
    def test_allocations_are_filtered_ordered_and_limited(self, ledger: Ledger) -> None:
        early = award("z", awarded_at=T0 - MINUTE)
        ledger.record_auction(auction(), [early, award("a"), award("a", 2), award("Z")])
        given = lease(ledger, award("b", run="other"))
        keys = [row.key for row in ledger.allocations()]
        assert keys == [
            ("run", "a", 2),
            ("run", "a", 1),
            ("run", "Z", 1),
            ("other", "b", 1),
            ("run", "z", 1),
        ]
        assert [row.key for row in ledger.allocations(run_id="run", limit=1)] == keys[:1]
        states = [AllocationState.LEASED, AllocationState.SETTLED]
        assert ledger.allocations(states=states) == [given]
        assert ledger.allocations(states=[]) == []


class TestRuns:
    def test_a_run_is_held_extended_and_ended(self, ledger: Ledger) -> None:
        assert ledger.run_lease("run") is None
        ledger.end_run("run", now=T0)
        ledger.hold_run("run", "h/1", expires_at=T0 + 2 * MINUTE)
        ledger.hold_run("run", "h/1", expires_at=T0 + MINUTE)
        ledger.hold_run("other", "h/2", expires_at=T0)
        held = RunLease(run_id="run", holder="h/1", expires_at=T0 + 2 * MINUTE)
        assert ledger.run_lease("run") == held
        assert [run.run_id for run in ledger.live_runs()] == ["other", "run"]
        ledger.end_run("run", now=T0)
        ledger.end_run("run", now=T0 + MINUTE)
        assert ledger.run_lease("run") == replace(held, ended_at=T0)
        assert [run.run_id for run in ledger.live_runs()] == ["other"]

    def test_who_said_goodbye_stays_gone_and_a_successor_begins_anew(self, ledger: Ledger) -> None:
        ledger.hold_run("run", "h/1", expires_at=T0 + 9 * MINUTE)
        ledger.end_run("run", now=T0)
        ledger.hold_run("run", "h/1", expires_at=T0 + 99 * MINUTE)
        assert ledger.live_runs() == []
        ledger.hold_run("run", "h/2", expires_at=T0 + MINUTE)
        successor = RunLease(run_id="run", holder="h/2", expires_at=T0 + MINUTE)
        assert ledger.live_runs() == [successor]


class TestTenders:
    def test_the_last_word_of_each_run_stands(self, ledger: Ledger) -> None:
        first = Tender(run_id="b", account="x", noted_at=T0)
        size = ResourceVector(cpu_millis=5, memory_bytes=6, gpu_count=7)
        later = Tender(
            run_id="b", account="y", capacity_id="c", size=size, noted_at=T0 + timedelta(seconds=1)
        )
        other = Tender(run_id="a", account="x", noted_at=T0)
        for tender in (first, later, other):
            ledger.note_tender(tender)
        assert list(ledger.tenders()) == [other, later]
        assert ledger.forget_tenders(before=T0 + timedelta(seconds=1)) == 1
        assert list(ledger.tenders()) == [later]

    def test_single_leases_are_revoked_once(self, ledger: Ledger) -> None:
        held, kept = lease(ledger, award("a")), lease(ledger, award("b"))
        at = T0 + timedelta(seconds=9)
        (revoked,) = ledger.revoke_leases([held.key, ("run", "nowhere", 1)], now=at)
        assert (revoked.key, revoked.state) == (held.key, AllocationState.REVOKED)
        assert revoked.ended_at == at
        assert list(ledger.revoke_leases([held.key], now=at)) == []
        assert ledger.held(kept.capacity_id) == kept.size
        settled_row = ledger.settle(
            held.key, held.fencing_token, ended_at=at + timedelta(hours=1), usage=None
        )
        assert settled_row.ended_at == at

    def test_what_was_leased_lately(self, ledger: Ledger) -> None:
        old, new = lease(ledger, award("a")), lease(ledger, award("b"))
        ledger.record_auction(auction(), [award("d", auction_id="auction-1")])
        for row, seconds in ((old, 1), (new, 3)):
            end = T0 + timedelta(seconds=seconds)
            ledger.settle(row.key, row.fencing_token, ended_at=end, usage=None)
        held = lease(ledger, award("c"))
        since = T0 + timedelta(seconds=2)
        found = ledger.leased_since(since)
        assert {row.key for row in found} == {new.key, held.key}
        assert not ledger.leased_since(since, capacity_id="another")
        assert len(ledger.leased_since(since, capacity_id=held.capacity_id)) == 2

    def test_a_started_lease_is_billed_its_minimum(self, ledger: Ledger) -> None:
        started = lease(ledger, award("a", minimum_ms=60_000, price_microusd_per_hour=3_600_000))
        unstarted = lease(ledger, award("b", minimum_ms=60_000, price_microusd_per_hour=3_600_000))
        ledger.accept(started.key, started.fencing_token, now=T0)
        end = T0 + timedelta(seconds=10)
        bills = [
            ledger.settle(row.key, row.fencing_token, ended_at=end, usage=None).cost_microusd
            for row in (started, unstarted)
        ]
        assert bills == [60_000, 10_000]


class TestWhatIsLearned:
    def test_the_newest_curves_of_a_step_come_first(self, ledger: Ledger) -> None:
        step, other = StepIdentity(node="a", partition="p"), StepIdentity(node="a")
        kept = [
            UsageCurve(interval_ms=50, memory_bytes=(n, 2 * n), cpu_ms=(1, 2), io_bytes=(0, 9))
            for n in (1, 2, 3)
        ]
        for number, curve in enumerate(kept):
            at = T0 + timedelta(seconds=number)
            ledger.keep_curve(("run", f"s{number}", 1), step, curve, ended_at=at)
        ledger.keep_curve(("run", "s2", 1), step, kept[2], ended_at=T0 + timedelta(seconds=2))
        assert list(ledger.curves(step)) == kept[::-1]
        assert list(ledger.curves(step, limit=1)) == kept[2:]
        assert list(ledger.curves(other)) == []

    def test_the_last_publication_of_each_step_stands(self, ledger: Ledger) -> None:
        a, b = StepIdentity(code_location="x", node="a"), StepIdentity(code_location="x", node="")
        first = Publication(identity=a, model="x@1", published_at=T0, state={"p": [1, 2.5]})
        second = Publication(identity=a, model="x@2", published_at=T0 + MINUTE, state={})
        whole = Publication(identity=b, model="x@2", published_at=T0, state={"q": "r"})
        ledger.publish([first])
        assert ledger.published([a, b]) == {a: first}
        ledger.publish([second, whole])
        assert ledger.published() == {a: second, b: whole}
        with pytest.raises(InvalidInputError):
            ledger.publish([first, replace(whole, state={"bad": object()})])
        assert ledger.published([a]) == {a: second}
        assert ledger.withdraw([a, a]) == 1
        assert ledger.published() == {b: whole}

    def test_imported_attempts_are_kept_once(self, ledger: Ledger) -> None:
        first, second = (
            Usage(
                run_id="import:x",
                step_key=f"fit[{row}]",
                attempt=1,
                identity=StepIdentity(code_location="x", node="fit"),
                provider="import",
                resource_id="import/x",
                started_at=T0,
                ended_at=T0 + timedelta(seconds=row),
                cpu_millis=0,
                memory_bytes=5,
                measurement=Measurement(wall_ms=1, cpu_ms=1, peak_memory_bytes=row),
                ending=Ending.OK,
                input_bytes=row,
            )
            for row in (1, 2)
        )
        assert ledger.keep_usages([first, first]) == 1
        changed = replace(first, memory_bytes=99)
        assert ledger.keep_usages([changed, second]) == 1
        assert list(ledger.usages()) == [second, first]
