"""Leases: taken within the room there is, held by a token, extended, ended, by any clock."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from contract_rows import MINUTE, ROOM_FOR_TWO, SIZE, T0, auction, award, lease

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.lease import Refusal
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.resources import ResourceVector
from cu_market.ledger.errors import LeaseLostError
from cu_market.ledger.interface import Ledger


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

    def test_an_offer_that_has_ended_is_not_leased(self, ledger: Ledger) -> None:
        brief = award("a", valid_until=T0 + MINUTE)
        ledger.record_auction(auction(), [brief, award("b", valid_until=T0 + MINUTE)])
        assert ledger.allocation(brief.key) == brief
        late = {"capacity": ROOM_FOR_TWO, "expires_at": T0 + 3 * MINUTE, "now": T0 + MINUTE}
        for wanted in (brief, award("mapped[7]", valid_until=T0 + MINUTE)):
            refused = ledger.lease(wanted, **late)
            assert refused == Refusal(
                capacity_id="local",
                short_of=(),
                free=ROOM_FOR_TWO,
                reason="local/standard was offered until 2026-03-01T12:01:00+00:00",
                is_expired=True,
            )
        assert ledger.allocation(brief.key) == brief
        assert ledger.held("local") == ResourceVector()
        given = lease(ledger, award("b", valid_until=T0 + MINUTE), now=T0 + MINUTE / 2)
        assert (given.state, given.valid_until) == (AllocationState.LEASED, T0 + MINUTE)
        assert ledger.allocation(given.key) == given

    def test_a_lease_outlives_its_offer(self, ledger: Ledger) -> None:
        given = lease(ledger, award(valid_until=T0 + MINUTE), expires_at=T0 + 9 * MINUTE)
        ledger.accept(given.key, given.fencing_token, now=T0 + 2 * MINUTE)
        end = T0 + 3 * MINUTE
        ended = ledger.settle(given.key, given.fencing_token, ended_at=end, usage=None)
        assert ended.state is AllocationState.SETTLED
        assert ended.valid_until == T0 + MINUTE

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

    def test_leases_under_which_nothing_was_started_are_told_newest_first(
        self, ledger: Ledger
    ) -> None:
        for number, step in enumerate("abc"):
            lease(ledger, award(step), capacity=SIZE)
            ledger.release(("run", step, 1), now=T0 + number * MINUTE, is_unstarted=step in "ac")
        begun = lease(ledger, award("d"))
        ledger.accept(begun.key, begun.fencing_token, now=T0)
        ledger.release(begun.key, now=T0 + 9 * MINUTE, is_unstarted=True)  # it was started
        found = ledger.unstarted(limit=9)
        assert [row.step_key for row in found] == ["c", "a"]
        assert [row.unstarted_at for row in found] == [T0 + 2 * MINUTE, T0]
        assert {row.state for row in found} == {AllocationState.RELEASED}
        assert {row.cost_microusd for row in found} == {None}
        assert list(ledger.unstarted(limit=1)) == [found[0]]
        assert ledger.usages() == []

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


class TestGrowth:
    """A lease that becomes larger in place."""

    @staticmethod
    def grow(ledger: Ledger, given: Allocation, gib: int, **fields: Any) -> Allocation | Refusal:
        terms: dict[str, Any] = {
            "size": replace(given.size, memory_bytes=gib * 2**30),
            "price_microusd_per_hour": 7_200_000,
            "capacity": ROOM_FOR_TWO,
            "now": T0 + MINUTE,
        }
        return ledger.grow(given, **(terms | fields))

    def test_it_holds_more_and_is_billed_at_each_price_for_its_time(self, ledger: Ledger) -> None:
        given = lease(ledger, award())
        ledger.accept(given.key, given.fencing_token, now=T0)
        grown = self.grow(ledger, given, 4)
        assert isinstance(grown, Allocation)
        assert grown == ledger.allocation(given.key)
        assert (
            ledger.held("local")
            == grown.size
            == ResourceVector(cpu_millis=1000, memory_bytes=4 * 2**30)
        )
        done = ledger.settle(given.key, given.fencing_token, ended_at=T0 + 4 * MINUTE, usage=None)
        assert done.cost_microusd == 60_000 + 3 * 120_000
        assert ledger.allocation(given.key) == done

    def test_it_grows_again_and_an_answer_that_was_lost_changes_nothing(
        self, ledger: Ledger
    ) -> None:
        given = lease(ledger, award())
        first = self.grow(ledger, given, 2)
        assert self.grow(ledger, given, 2, now=T0 + 2 * MINUTE) == first
        assert isinstance(first, Allocation)
        second = self.grow(
            ledger, first, 3, price_microusd_per_hour=10_800_000, now=T0 + 2 * MINUTE
        )
        assert isinstance(second, Allocation)
        assert second.accrued_microusd == 60_000 + 120_000
        done = ledger.settle(given.key, given.fencing_token, ended_at=T0 + 3 * MINUTE, usage=None)
        assert done.cost_microusd == 60_000 + 120_000 + 180_000

    def test_its_minimum_is_the_whole_leases(self, ledger: Ledger) -> None:
        given = lease(ledger, award(minimum_ms=120_000))
        ledger.accept(given.key, given.fencing_token, now=T0)
        self.grow(ledger, given, 2)
        done = ledger.settle(
            given.key, given.fencing_token, ended_at=T0 + MINUTE * 3 / 2, usage=None
        )
        assert done.cost_microusd == 60_000 + 120_000  # one minute each, not two at the new price

    def test_beyond_the_room_it_is_refused_with_what_it_could_have(self, ledger: Ledger) -> None:
        given = lease(ledger, award())
        lease(ledger, award("b"))
        refused = self.grow(ledger, given, 8)
        assert refused == Refusal(
            capacity_id="local",
            short_of=("memory_bytes",),
            free=ResourceVector(cpu_millis=1000, memory_bytes=7 * 2**30),
        )
        assert ledger.allocation(given.key) == given
        assert isinstance(self.grow(ledger, given, 7), Allocation)
        assert ledger.held("local").memory_bytes == 8 * 2**30

    def test_only_a_live_lease_and_its_holder_grow_and_never_smaller(self, ledger: Ledger) -> None:
        given = lease(ledger, award())
        with pytest.raises(LeaseLostError, match="fencing token"):
            self.grow(ledger, replace(given, fencing_token=given.fencing_token + 1), 2)
        with pytest.raises(LeaseLostError, match="no such attempt"):
            self.grow(ledger, replace(given, step_key="other"), 2)
        with pytest.raises(InvalidInputError, match="let a lease grow only"):
            self.grow(ledger, given, 0)
        ledger.revoke("run", now=T0)
        with pytest.raises(LeaseLostError, match="holds nothing that can grow"):
            self.grow(ledger, given, 2)

    def test_leases_that_grow_at_once_never_pass_the_capacity(self, ledger: Ledger) -> None:
        given = [lease(ledger, award(step)) for step in "ab"]
        answers: list[Allocation | Refusal] = []
        gate = threading.Barrier(2)

        def grow(mine: Allocation) -> None:
            gate.wait()
            answers.append(self.grow(ledger, mine, 5))

        threads = [threading.Thread(target=grow, args=(mine,)) for mine in given]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(type(answer).__name__ for answer in answers) == ["Allocation", "Refusal"]
        assert ledger.held("local").memory_bytes == 6 * 2**30
