"""Auctions and their awards: written together, released by later ones, said wrong all at once."""

from __future__ import annotations

from datetime import datetime

import pytest
from contract_rows import MINUTE, T0, auction, award, lease

from cu_market.domain.allocation import AllocationState
from cu_market.domain.problem import InvalidInputError
from cu_market.ledger.errors import LedgerError
from cu_market.ledger.interface import Ledger


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
