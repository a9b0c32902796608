"""Settlement: billed and learned once, by the holder of the token alone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from contract_rows import MINUTE, T0, auction, award, lease, usage

from cu_market.domain.allocation import AllocationState
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.resources import ResourceVector
from cu_market.domain.tender import Tender
from cu_market.ledger.errors import LeaseLostError
from cu_market.ledger.interface import Ledger


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


class TestTenders:
    def test_the_last_word_of_each_run_stands(self, ledger: Ledger) -> None:
        first = Tender(run_id="b", account="x", noted_at=T0)
        size = ResourceVector(cpu_millis=5, memory_bytes=6, gpu_count=7)
        later = Tender(
            run_id="b",
            account="y",
            capacity_id="c",
            size=size,
            priority=-8,
            noted_at=T0 + timedelta(seconds=1),
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
