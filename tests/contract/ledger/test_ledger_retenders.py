"""Awards that another run's auction moves: the first of two has them; what is open is kept."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from contract_rows import MINUTE, SIZE, T0, auction, award, lease

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.open_request import OpenRequest
from cu_market.domain.request import Quantiles, ResourceRequest, Sizing, StepIdentity
from cu_market.domain.resources import ResourceVector
from cu_market.domain.scaling import Scaling
from cu_market.ledger.errors import AwardTakenError, LeaseLostError
from cu_market.ledger.interface import Ledger


def asked(step: str = "a", run: str = "run", moves: int = 0) -> OpenRequest:
    """Everything that a request can say."""
    request = ResourceRequest(
        request_id=step,
        timestamp=T0,
        cu_type="A100",
        quantity=2,
        duration_ms=1234,
        needs=ResourceVector(cpu_millis=500, memory_bytes=7, gpu_count=1),
        gpu_type="A100",
        sizing=Sizing.FORECAST,
        reason="größer ≥",
        identity=StepIdentity(code_location="here", node=step, partition="2026"),
        duration_quantiles_ms=Quantiles(p10=1, p50=2, p95=3),
        memory_quantiles=Quantiles(p10=4, p50=5, p95=6),
        scaling=Scaling(waiting_ms=1, serial_ms=2, parallel_ms=3, most_millis=4000),
        depends_on=("b", "c"),
        earliest_start_ms=5,
        latest_finish_ms=99,
        max_price_microusd_per_hour=10**13,
        value_of_time_microusd_per_hour=7,
        providers=("local",),
        locations=("x", "y"),
        together="x",
        priority=-3,
        interruptible=False,
        external=True,
        run_id=run,
        labels=(("k", "v"),),
    )
    return OpenRequest(
        run_id=run,
        step_key=step,
        account="acme",
        job_name="job",
        moves=moves,
        budget_microusd=2**40,
        request=request,
    )


def plain(step: str, run: str = "run") -> OpenRequest:
    """A request that says as little as possible."""
    request = ResourceRequest(request_id=step, timestamp=T0, duration_ms=1, needs=SIZE)
    return OpenRequest(run_id=run, step_key=step, account="acme", job_name="job", request=request)


def record(ledger: Ledger, *steps: str) -> None:
    ledger.record_auction(auction(), [award(s) for s in steps], [asked(s) for s in steps])


def moved(step: str = "a", attempt: int = 2, **fields: object) -> Allocation:
    return award(step, attempt, auction_id="theirs", resource_id="local/other", **fields)


def supersede(ledger: Ledger, *awards: Allocation) -> list[Allocation]:
    theirs = auction("theirs", place="together", held_at=T0 + MINUTE)
    requests = [asked(each.step_key, moves=1) for each in awards]
    return list(ledger.supersede(theirs, awards, requests))


class TestStanding:
    def test_what_is_awarded_stands_with_what_it_asked_for(self, ledger: Ledger) -> None:
        ledger.record_auction(auction(), [award("a"), award("b")], [asked("a"), plain("b")])
        ledger.record_auction(
            auction("other", run="r2"), [award("a", run="r2", auction_id="other")]
        )
        assert ledger.standing() == [(award("a"), asked("a")), (award("b"), plain("b"))]
        lease(ledger, award("a"))
        assert ledger.standing() == [(award("b"), plain("b"))]

    def test_it_is_over_what_was_kept_before_and_gone_with_the_run(self, ledger: Ledger) -> None:
        record(ledger, "a", "b")
        later = [award("a", 2, auction_id="auction-2", awarded_at=T0 + MINUTE)]
        ledger.record_auction(auction("auction-2"), later, [asked("a", moves=2)])
        assert ledger.standing() == [(award("b"), asked("b")), (later[0], asked("a", moves=2))]
        ledger.release_awards("another", now=T0)
        assert len(ledger.standing()) == 2
        ledger.release_awards("run", now=T0)
        assert ledger.standing() == []
        again = [award("b", 2, auction_id="auction-3")]
        ledger.record_auction(auction("auction-3"), again)
        assert ledger.standing() == []  # what it asked for went with the awards

    def test_revoking_a_run_ends_what_it_asks_for(self, ledger: Ledger) -> None:
        record(ledger, "a")
        ledger.revoke("run", now=T0)
        assert ledger.standing() == []


class TestSupersede:
    def test_a_moved_award_takes_the_place_of_the_one_before(self, ledger: Ledger) -> None:
        record(ledger, "a", "b")
        assert supersede(ledger, moved("a")) == [moved("a")]
        before = ledger.allocation(("run", "a", 1))
        assert before is not None
        assert (before.state, before.ended_at) == (AllocationState.RELEASED, T0 + MINUTE)
        assert ledger.auctions("run", limit=1)[0].place == "together"
        assert ledger.standing() == [(moved("a"), asked("a", moves=1)), (award("b"), asked("b"))]

    def test_a_superseded_award_is_never_leased(self, ledger: Ledger) -> None:
        record(ledger, "a")
        supersede(ledger, moved("a"))
        with pytest.raises(LeaseLostError, match="RELEASED cannot become LEASED"):
            lease(ledger, award("a"))
        assert lease(ledger, moved("a")).resource_id == "local/other"

    def test_a_leased_award_is_not_moved(self, ledger: Ledger) -> None:
        record(ledger, "a", "b")
        given = lease(ledger, award("a"))
        assert supersede(ledger, moved("a"), moved("b")) == [moved("b")]
        assert ledger.allocation(("run", "a", 1)) == given
        assert ledger.allocation(("run", "a", 2)) is None
        assert [row.step_key for row, _ in ledger.standing()] == ["b"]

    def test_where_all_come_too_late_nothing_is_written(self, ledger: Ledger) -> None:
        record(ledger, "a")
        lease(ledger, award("a"))
        assert supersede(ledger, moved("a"), moved("unknown")) == []
        assert [each.auction_id for each in ledger.auctions()] == ["auction-1"]

    def test_of_two_that_move_an_award_the_first_has_it(self, ledger: Ledger) -> None:
        record(ledger, "a")
        supersede(ledger, moved("a"))
        second = auction("second", place="together", held_at=T0 + MINUTE)
        late = replace(moved("a"), auction_id="second")
        assert ledger.supersede(second, [late], [asked("a")]) == []
        own = auction("own", place="renegotiation")
        with pytest.raises(AwardTakenError, match="'a' attempt 2 was awarded by auction 'theirs'"):
            ledger.record_auction(own, [award("a", 2, auction_id="own")])

    def test_said_again_it_returns_what_it_wrote(self, ledger: Ledger) -> None:
        record(ledger, "a", "b")
        lease(ledger, award("b"))
        first = supersede(ledger, moved("a"), moved("b"))
        assert supersede(ledger, moved("a"), moved("b")) == first == [moved("a")]
        given = lease(ledger, moved("a"))
        assert supersede(ledger, moved("a"), moved("b")) == [given]

    def test_threads_that_lease_and_move_one_award_do_not_both_have_it(
        self, ledger: Ledger
    ) -> None:
        for number in range(10):
            step = f"step-{number}"
            held = auction(f"own-{number}")
            ledger.record_auction(held, [award(step, auction_id=held.auction_id)], [asked(step)])
            start, won = threading.Barrier(2), []

            def take(step: str = step, start: threading.Barrier = start) -> None:
                start.wait()
                try:
                    lease(ledger, award(step), capacity=SIZE.times(100))
                    won.append("lease")  # noqa: B023 - read in this turn only
                except LeaseLostError:
                    pass

            def move(
                step: str = step, number: int = number, start: threading.Barrier = start
            ) -> None:
                start.wait()
                theirs = auction(f"theirs-{number}", place="together", held_at=T0 + MINUTE)
                new = replace(moved(step), auction_id=theirs.auction_id)
                if ledger.supersede(theirs, [new], [asked(step)]):
                    won.append("move")  # noqa: B023

            threads = [threading.Thread(target=target) for target in (take, move)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(won) == 1
