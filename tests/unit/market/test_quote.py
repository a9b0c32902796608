from __future__ import annotations

import math
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles

import pytest
from sellers import Seller, market_of
from sellers import run as run_of
from sellers import step as hour_of
from small_market import Fair
from unhurried import UNHURRIED

from cu_market.cli.quote import beside_words, draw_quote
from cu_market.domain.inputs import InputData, Place
from cu_market.domain.outline import RunOutline, StepOutline
from cu_market.domain.request import StepIdentity
from cu_market.domain.units import GB, GIB
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.ledger.interface import Ledger
from cu_market.ledger.memory import InMemoryLedger
from cu_market.market.auction import Market
from cu_market.market.quote import Point, Quote, falling, quote_run
from cu_market.market.settings import MarketSettings
from cu_market.market.together.crowd import expected_left_ms
from cu_market.ral.local.machine import Machine
from cu_market.ral.local.provider import LocalProvider

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NEW = "new"
TAGS = {"cu/cpu_cores": "1", "cu/memory_gb": "0.1"}


def steps(count: int) -> tuple[StepOutline, ...]:
    return tuple(
        StepOutline(
            step_key=f"s{k}",
            op_name=f"s{k}",
            identity=StepIdentity(node=f"s{k}"),
            tags=TAGS,
            depends_on=() if k == 0 else (f"s{k - 1}",),
        )
        for k in range(count)
    )


def known(step: str, attempt: int, seconds: float) -> Usage:
    return Usage(
        run_id="earlier",
        step_key=step,
        attempt=attempt,
        identity=StepIdentity(node=step),
        provider="local",
        resource_id="local/standard",
        started_at=NOW - timedelta(seconds=seconds),
        ended_at=NOW,
        cpu_millis=1000,
        memory_bytes=GIB,
        measurement=Measurement(
            wall_ms=round(1000 * seconds), cpu_ms=round(1000 * seconds), peak_memory_bytes=10**7
        ),
        ending=Ending.OK,
    )


class KnownLedger(InMemoryLedger):
    """A ledger that remembers some attempts of each step but a new one."""

    def history(self, identities, *, limit=50):  # type: ignore[no-untyped-def]
        return {
            identity: [known(identity.node, k, 20 + 10 * (k % 3)) for k in range(9)]
            for identity in identities
            if identity.node != NEW
        }


def known_market(*, cores: int = 2) -> Market:
    machine = Machine(cpu_millis=1000 * cores, memory_bytes=16 * GIB)
    dear = {"name": "dear", "core_usd_per_hour": 3, "gb_usd_per_hour": 0}
    local = LocalProvider.from_config("local", {"tariffs": [dear]}, machine=machine)
    settings = MarketSettings(**UNHURRIED)
    return Market(settings=settings, ledger=KnownLedger(), providers=[local], now=lambda: NOW)


def quoted(
    *, points: int = 6, of: tuple[StepOutline, ...] = steps(4), cores: int = 2
) -> tuple[Quote, Ledger]:
    market = known_market(cores=cores)
    outline = RunOutline(run_id="run", job_name="job", steps=of)
    return quote_run(market, outline, points=points), market.ledger


def test_a_quote_leaves_no_trace_and_is_the_same_again() -> None:
    (first, ledger), (second, _) = quoted(), quoted()
    assert ledger.auctions() == []
    assert ledger.allocations() == []
    assert (first.asked, first.curve) == (second.asked, second.curve)


def test_the_curve_falls_and_keeps_its_deadlines() -> None:
    quote, _ = quoted(points=6)
    assert len(quote.curve) == 6
    deadlines = [point.deadline_ms for point in quote.curve]
    assert deadlines == sorted(set(deadlines))
    costs = [point.cost_microusd[0] for point in quote.curve]
    assert costs == sorted(costs, reverse=True)
    for point in (quote.asked, *quote.curve):
        assert 0 < point.cost_microusd[0] < point.cost_microusd[1]
        assert 0 < point.finish_ms[0] < point.finish_ms[1]


def test_a_chain_of_four_takes_the_sum_and_is_surer_than_its_steps() -> None:
    quote, _ = quoted()
    quantiles = quote.cleared.demand.requests[0].duration_quantiles_ms
    assert quantiles is not None
    finish, finish_95 = quote.asked.finish_ms
    assert finish == pytest.approx(4 * quantiles.p50, rel=0.1)
    assert finish_95 / finish < quantiles.p95 / quantiles.p50


def test_steps_that_wait_for_one_core_end_one_after_the_other() -> None:
    """After a root, two that have to share a core: its times add up, whoever comes first."""
    first, *both = steps(3)
    fork = (first, *(replace(step, depends_on=("s0",)) for step in both))
    quote, _ = quoted(of=fork, cores=1)
    forecast = quote.cleared.demand.requests[0].duration_quantiles_ms
    assert forecast is not None
    draws, sigma = random.Random(1), math.log(forecast.p95 / forecast.p50) / 1.6449
    takes = [award.expected_ms for award in quote.cleared.plan.awards]
    assert len({award.start_ms for award in quote.cleared.plan.awards}) == 3
    sums = [sum(t * math.exp(draws.gauss(0, sigma)) for t in takes) for _ in range(20_000)]
    every_20th = quantiles(sums, n=20)
    assert quote.asked.finish_ms[0] == pytest.approx(every_20th[9], rel=0.03)
    assert quote.asked.finish_ms[1] == pytest.approx(every_20th[18], rel=0.06)


def test_a_step_with_a_parent_that_waits_for_room_does_not_end_early() -> None:
    fair = Fair(prices={"only": 1})
    outline = fair.outline("run", "10", "20", "30")
    root, *others = outline.steps
    fork = replace(outline, steps=(root, *(replace(step, depends_on=("s0",)) for step in others)))
    quote = quote_run(fair.market, fork)
    assert quote.asked.finish_ms == (60_000, 60_000)
    assert {point.finish_ms for point in quote.curve} == {(60_000, 60_000)}


def test_what_is_paid_for_taking_inputs_there_is_in_the_cost() -> None:
    x, y = (Place(location=at, egress_microusd_per_gb=90_000) for at in ("x", "y"))
    data = InputData(source="a", size_bytes=2 * GB, place=y)
    reader = replace(hour_of("c", "a"), depends_on=(), inputs=(data,))
    quote = quote_run(market_of(Seller("cheap", 0.5, place=x)), run_of(reader))
    # An hour at half a dollar, and two GB at nine cents.
    assert quote.asked.cost_microusd == (680_000, 680_000)
    assert quote.asked.cost_microusd[0] == quote.cleared.plan.money_microusd


def test_falling_keeps_the_better_of_two_plans() -> None:
    points = [
        Point(deadline_ms=1, is_feasible=False),
        Point(deadline_ms=2, cost_microusd=(5, 6), finish_ms=(1, 2)),
        Point(deadline_ms=3, cost_microusd=(7, 8), finish_ms=(2, 3)),
        Point(deadline_ms=4, is_feasible=False),
        Point(deadline_ms=5, cost_microusd=(3, 4), finish_ms=(4, 5)),
    ]
    curve = falling(points)
    assert [p.deadline_ms for p in curve] == [1, 2, 3, 4, 5]
    assert [p.cost_microusd[0] for p in curve] == [0, 5, 5, 5, 3]
    assert [p.is_feasible for p in curve] == [False, True, True, True, True]
    assert points[0].to_record()["cost_usd_p50"] is None


def test_whom_it_was_planned_beside_is_said() -> None:
    nobody = {"leases": 0, "waiting_steps": 0, "queued_steps": 0, "left_out_steps": 0}
    said = beside_words({"beside": nobody, "is_late": False})
    assert said == "Nobody else uses the pools now."
    some = nobody | {"leases": 1, "waiting_steps": 2, "left_out_steps": 7}
    assert beside_words({"beside": some, "is_late": True}) == (
        "Planned beside 1 lease and 2 waiting steps. 7 more waiting steps do not count. "
        "As asked, it misses its deadline because of them."
    )


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    quote, _ = quoted()
    document = {
        "job": "job",
        "asked": quote.asked.to_record(),
        "curve": [point.to_record() for point in quote.curve],
    }
    draw_quote(document, tmp_path / "quote.svg")
    assert "cost against deadline" in (tmp_path / "quote.svg").read_text()


def test_a_lease_that_goes_on_is_waited_for() -> None:
    fair = Fair(prices={"only": 1})
    lease = fair.lease(fair.clear("a", "100").allocations["s0"])
    fair.now += timedelta(seconds=40)
    quote = quote_run(fair.market, fair.outline("b", "10"))
    left_ms = expected_left_ms(lease, fair.now)
    assert 60_000 <= left_ms <= 75_000
    assert quote.asked.finish_ms == (left_ms + 10_000, left_ms + 10_000)
    assert quote.beside() == {
        "leases": 1,
        "waiting_steps": 0,
        "queued_steps": 0,
        "left_out_steps": 0,
    }


def test_what_another_run_waits_for_keeps_its_place_and_nothing_is_written() -> None:
    fair = Fair(prices={"only": 1})
    fair.clear("a", "20", "50", chain=True)
    before = (fair.ledger.auctions(), fair.rows("a"), fair.ledger.standing())
    quote = quote_run(fair.market, fair.outline("b", "10", deadline_seconds="60"))
    assert (fair.ledger.auctions(), fair.rows("a"), fair.ledger.standing()) == before
    assert quote.asked.finish_ms == (80_000, 80_000)
    assert (quote.is_late, quote.beside()["waiting_steps"]) == (True, 2)


def test_others_times_are_drawn_too() -> None:
    """What stands before it has a forecast of its own, so its wait is as unsure as that."""
    market = known_market(cores=1)
    sure = replace(
        steps(1)[0],
        step_key="sure",
        identity=StepIdentity(node=NEW),
        tags=TAGS | {"cu/duration_seconds": "10"},
    )
    second = RunOutline(run_id="second", job_name="job", steps=(sure,))
    assert quote_run(market, second).asked.finish_ms == (10_000, 10_000)
    first = RunOutline(run_id="first", job_name="job", steps=steps(2))
    chain = quote_run(market, first).asked.finish_ms
    assert chain[0] < chain[1]
    market.clear(first, place="launcher")
    behind = quote_run(market, second).asked.finish_ms
    assert [at - 10_000 for at in behind] == pytest.approx(chain, rel=0.05)


def test_time_is_had_for_money_where_the_cheap_one_is_taken() -> None:
    fair = Fair(prices={"cheap": 1, "dear": 3})
    fair.clear("a", "100", max_price_usd_per_hour="2")
    quote = quote_run(fair.market, fair.outline("b", "36"))
    hurried, patient = quote.curve[0], quote.curve[-1]
    assert (hurried.finish_ms[0], hurried.cost_microusd[0]) == (36_000, 30_000)
    assert (patient.finish_ms[0], patient.cost_microusd[0]) == (136_000, 10_000)


def test_a_quote_and_the_auction_that_follows_agree() -> None:
    fair = Fair(prices={"cheap": 1, "dear": 3})
    fair.lease(fair.clear("a", "100", account="theirs").allocations["s0"])
    fair.clear("b", "30", "40", account="theirs")
    outline = fair.outline("c", "10", "20", chain=True, account="ours")
    quote = quote_run(fair.market, outline)
    held = fair.market.clear(outline, place="launcher").plan
    assert quote.cleared.plan.awards == held.awards
    assert quote.asked.cost_microusd[0] == held.money_microusd
    assert quote.asked.finish_ms[0] == max(a.start_ms + a.expected_ms for a in held.awards)


def test_runs_in_the_queue_are_planned_with() -> None:
    fair = Fair(prices={"only": 1})
    ahead = fair.outline("queued", "5")
    quote = quote_run(fair.market, fair.outline("b", "10"), queued=[ahead])
    assert quote.beside()["queued_steps"] == 1
    assert quote.asked.finish_ms[0] in (10_000, 15_000)
    assert fair.ledger.auctions() == []
