from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cu_market.pse.performance import performance_millis, score_millis


def test_nothing_known_is_the_reference() -> None:
    assert score_millis([], []) == 1000


def test_kept_promises_never_lower_a_score() -> None:
    for count in (1, 10, 100):
        assert score_millis([900] * 20, [True] * count) == performance_millis([900] * 20)


def test_the_mean_of_a_decayed_beta_distribution() -> None:
    kept = [False, True, True]
    weights = [1.0, 0.97, 0.97**2]
    posterior = (19 + sum(weights[1:])) / (20 + sum(weights))
    assert score_millis([], kept) == round(1000 * posterior / 0.95)


def test_one_in_ten_broken_costs_about_a_tenth_in_the_long_run() -> None:
    kept = [k % 10 != 5 for k in range(300)]
    assert score_millis([], kept) == pytest.approx(1000 * 0.9 / 0.95, abs=30)


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 39))
def test_a_broken_promise_lowers_and_an_older_one_lowers_less(kept: list[bool], at: int) -> None:
    worse = score_millis([], [False, *kept])
    assert worse <= score_millis([], [True, *kept])
    if at < len(kept):
        older = [*kept[:at], False, *kept[at + 1 :]]
        newer = [False, *kept[1:at], *([kept[0]] if at else []), *kept[at + 1 :]]
        if at and kept[0] and kept[at]:
            assert score_millis([], newer) <= score_millis([], older)
