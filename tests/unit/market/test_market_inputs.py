"""What a step reads, from this run and from the last, and what the auction makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from sellers import NOW, Seller, market_of, run, step

from cu_market.domain.inputs import InputData, Place
from cu_market.domain.outline import StepOutline
from cu_market.domain.request import StepIdentity
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.market.accounts.spending import expected_microusd
from cu_market.market.demand.inputs import inputs_of
from cu_market.market.demand.past import Past

GB = 10**9
X = Place(location="x", egress_microusd_per_gb=90_000, bandwidth_mbps=1000)
Y = Place(location="y", egress_microusd_per_gb=90_000, bandwidth_mbps=1000)


def attempt(name: str, *, read: int | None = None, wrote: int = 0) -> Usage:
    return Usage(
        run_id="before",
        step_key=name,
        attempt=1,
        identity=StepIdentity(node=name),
        provider="p",
        resource_id="p/cu",
        started_at=NOW,
        ended_at=NOW + timedelta(hours=1),
        cpu_millis=1000,
        memory_bytes=GB,
        measurement=Measurement(
            wall_ms=3_600_000, cpu_ms=3_600_000, peak_memory_bytes=10**8, written_bytes=wrote
        ),
        ending=Ending.OK,
        input_bytes=read,
    )


def past(*attempts: Usage) -> Past:
    return Past(history={usage.identity: [usage] for usage in attempts})


A, B = step("a"), step("b")
READER = step("c", "a", "b")


def by_key(steps: Sequence[StepOutline]) -> dict[str, StepOutline]:
    return {each.step_key: each for each in steps}


def sizes(reader: StepOutline, known: Past, *steps: StepOutline) -> dict[str, int | None]:
    return {data.source: data.size_bytes for data in inputs_of(reader, by_key(steps), known)}


def test_what_was_read_last_is_shared_out_by_what_the_sources_wrote() -> None:
    known = past(attempt("a", wrote=3 * GB), attempt("b", wrote=GB), attempt("c", read=8 * GB))
    assert sizes(READER, known, A, B, READER) == {"a": 6 * GB, "b": 2 * GB}


def test_where_one_source_is_not_known_all_count_alike() -> None:
    known = past(attempt("a", wrote=3 * GB), attempt("c", read=8 * GB))
    assert sizes(READER, known, A, B, READER) == {"a": 4 * GB, "b": 4 * GB}


def test_what_this_run_has_measured_comes_first_with_its_place() -> None:
    measured = replace(READER, inputs=(InputData(source="a", size_bytes=GB, place=X),))
    known = past(attempt("c", read=8 * GB))
    assert inputs_of(measured, by_key((B, measured)), known) == (
        InputData(source="a", size_bytes=GB, place=X),
        InputData(source="b", size_bytes=4 * GB),
    )


def test_a_source_that_is_neither_placed_nor_in_the_plan_says_nothing() -> None:
    assert inputs_of(READER, by_key((READER,)), past(attempt("c", read=8 * GB))) == ()
    assert inputs_of(READER, by_key((A, B, READER)), Past()) == ()


@pytest.mark.parametrize(("gigabytes", "winner"), [(1, "cheap/cu"), (20, "near/cu")])
def test_a_step_whose_input_lies_somewhere_goes_there_if_that_pays(
    gigabytes: int, winner: str
) -> None:
    market = market_of(Seller("cheap", 0.5, place=X), Seller("near", 1.0, place=Y))
    data = InputData(source="a", size_bytes=gigabytes * GB, place=Y)
    reader = replace(step("c", "a"), depends_on=(), inputs=(data,))
    cleared = market.clear(run(reader), place="executor")
    (record,) = cleared.auction.report["steps"]
    assert record["winner"]["resource_id"] == winner
    paid = 0.09 * gigabytes if winner == "cheap/cu" else 0
    assert record["winner"]["egress_usd"] == pytest.approx(paid)
    assert record["winner"]["transfer_seconds"] == (8 * gigabytes if paid else 0)
    (award,) = market.ledger.allocations(run_id="run")
    assert award.egress_microusd == round(10**6 * paid)
    assert expected_microusd(award) == cleared.plan.money_microusd
    assert cleared.plan.money_microusd == round(
        10**6 * paid + (500_000 * (3600 + 8 * gigabytes) / 3600 if paid else 10**6)
    )


def test_steps_of_a_first_auction_are_kept_together_by_what_they_read_the_last_time() -> None:
    market = market_of(
        Seller("cheap", 0.5, place=X),
        Seller("large", 0.7, place=Y, profile={"cpu_millis": 16_000}),
    )
    writer, reader = step("a"), step("c", "a", cpu_cores="8", sizing="fixed")
    apart = market.quote(run(writer, reader)).plan
    assert [award.resource_id for award in apart.awards] == ["cheap/cu", "large/cu"]
    market.ledger.keep_usages([attempt("a", wrote=50 * GB), attempt("c", read=50 * GB)])
    together = market.clear(run(writer, reader), place="launcher").plan
    assert [award.resource_id for award in together.awards] == ["large/cu", "large/cu"]
