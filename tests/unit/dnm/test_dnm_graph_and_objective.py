from __future__ import annotations

import pytest
from dnm_records import HOUR, asks, offers

from cu_market.dnm.graph import analyse
from cu_market.dnm.objective import Surcharge, delay_cost_microusd, expected_ms, money_microusd
from cu_market.domain.problem import InvalidInputError


def test_a_diamond_has_slack_only_on_its_short_side() -> None:
    graph = analyse(
        [
            asks("a", duration_ms=10),
            asks("long", duration_ms=50, depends_on=("a",)),
            asks("short", duration_ms=20, depends_on=("a",)),
            asks("end", duration_ms=5, depends_on=("long", "short")),
        ]
    )
    assert graph.earliest_start_ms == (0, 10, 10, 60)
    assert graph.tail_ms == (65, 55, 25, 5)
    assert graph.slack_ms == (0, 0, 30, 0)


def test_an_own_earliest_start_counts_when_it_is_later() -> None:
    graph = analyse([asks("a", duration_ms=10), asks("b", depends_on=("a",), earliest_start_ms=99)])
    assert graph.earliest_start_ms == (0, 99)
    assert graph.slack_ms == (89, 0)


def test_a_cycle_is_refused_with_its_members() -> None:
    with pytest.raises(InvalidInputError, match="a cycle") as caught:
        analyse([asks("a", depends_on=("b",)), asks("b", depends_on=("a",)), asks("c")])
    assert caught.value.problems[0].value == "a, b"


def test_unknown_parents_and_double_ids_are_all_told() -> None:
    with pytest.raises(InvalidInputError) as caught:
        analyse([asks("a", depends_on=("x", "y")), asks("a")])
    assert [problem.value for problem in caught.value.problems] == ["a", "x", "y"]


def test_money_is_price_times_expected_time_of_every_unit() -> None:
    request = asks("r", quantity=2)
    bid = offers("b", 1_000_000, startup_ms=HOUR // 2, bid={"performance_millis": 500})
    assert expected_ms(request, bid) == 2 * HOUR + HOUR // 2
    assert money_microusd(request, bid) == 2 * 2_500_000
    more = Surcharge(microusd=7, extra_ms=HOUR)
    assert money_microusd(request, bid, more) == 2 * 3_500_000 + 7


def test_only_delay_beyond_the_slack_costs() -> None:
    request = asks("r", value_of_time_microusd_per_hour=600)
    assert delay_cost_microusd(request, taken_ms=2 * HOUR, slack_ms=HOUR) == 0
    assert delay_cost_microusd(request, taken_ms=2 * HOUR, slack_ms=HOUR // 2) == 300
    assert delay_cost_microusd(request, taken_ms=HOUR // 2, slack_ms=0) == 0
