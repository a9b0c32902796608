"""Protocols, ladder and rules against an implementation that shares no code with them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slow_protocols import (
    Sizes,
    cold,
    every_ladder,
    expected_cost,
    max_1_1,
    max_1_1_after_3,
    percentile_95,
    presets,
    read_rows,
    tovar_ppm,
    warm,
    witt_lr,
)

from cu_market.pse.distribution import Distribution
from cu_market.pse.ladder.program import plan_ladder
from cu_market.pse.ladder.trade_off import trade_off
from cu_market.pse.protocols.compare import COLD, WARM, Setting, methods, replay
from cu_market.pse.protocols.score import summarize
from cu_market.pse.protocols.warm import split_rows
from cu_market.pse.traces.nextflow import parse_nextflow

RULES: dict[str, Sizes] = {
    "presets": presets,
    "max_1_1": max_1_1,
    "max_1_1_after_3": max_1_1_after_3,
    "p95": percentile_95,
    "witt_percentile": percentile_95,
    "witt_lr": witt_lr,
    "tovar_ppm": tovar_ppm,
}


def trace_path(name: str) -> Path:
    folder = os.environ.get("CU_MARKET_DATA")
    if not folder:
        pytest.skip("CU_MARKET_DATA names no folder with the traces")
    return Path(folder) / "nextflow-traces" / f"{name}.csv"


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("protocol", [WARM, COLD])
@pytest.mark.parametrize("name", ["rnaseq", "eager", "methylseq"])
def test_rules_waste_what_the_slow_replay_says(name: str, protocol: str, rule: str) -> None:
    path = trace_path(name)
    setting = Setting(protocol=protocol, seeds=(7,), ttf=0.5)
    tasks = parse_nextflow(path.read_text(), name).tasks
    (found,) = replay(tasks, methods(setting)[rule], setting, time.perf_counter)
    rows, sizes = read_rows(path), RULES[rule]
    if protocol == WARM:
        wasted, failed = warm(rows, sizes, 7, 0.5)
    else:
        wasted, failed = cold(rows, sizes, 0.5)
    summary = summarize(found.tasks)
    assert summary.failed_attempts == failed
    assert summary.wastage_gbh == pytest.approx(wasted, rel=1e-9)


@pytest.mark.parametrize("count", [34, 35, 40, 108, 137])
@pytest.mark.parametrize("seed", [1996, 7, 42])
def test_the_split_is_scikit_learns(count: int, seed: int) -> None:
    from sklearn.model_selection import train_test_split

    before, after = train_test_split(list(range(count)), test_size=0.7, random_state=seed)
    assert split_rows(count, seed) == (before, after)


@given(
    points=st.lists(
        st.tuples(st.integers(1, 500), st.integers(0, 20), st.integers(1, 20)),
        min_size=1,
        max_size=8,
        unique_by=lambda point: point[0],
    ),
    ttf=st.sampled_from([0.0, 0.5, 1.0]),
    delay=st.sampled_from([0.0, 50.0]),
    price=st.sampled_from([0.0, 100.0, 5000.0]),
)
def test_no_ladder_is_cheaper_than_the_planned_one(
    points: list[tuple[int, int, int]], ttf: float, delay: float, price: float
) -> None:
    points.sort()
    support, weights, masses = (
        np.array([float(point[place]) for point in points]) for place in range(3)
    )
    planned = plan_ladder(
        support,
        weights,
        ttf=ttf,
        delay_bytes=delay,
        failure_price=price,
        probabilities=masses,
    )

    def cost(ladder: tuple[float, ...]) -> float:
        return expected_cost(
            ladder,
            support.tolist(),
            weights.tolist(),
            ttf=ttf,
            delay=delay,
            price=price,
            masses=masses.tolist(),
        )

    assert list(planned) == sorted(set(planned))
    assert planned[-1] == support[-1]
    assert cost(planned) == pytest.approx(min(map(cost, every_ladder(support.tolist()))))


@given(
    pairs=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 9)), min_size=1, max_size=7),
    asked=st.integers(1, 60),
    ttf=st.sampled_from([0.5, 1.0]),
)
def test_a_first_allocation_costs_what_the_best_of_all_ladders_from_it_costs(
    pairs: list[tuple[int, int]], asked: int, ttf: float
) -> None:
    peaks = Distribution.of((peak, float(weight)) for peak, weight in pairs)
    total = sum(weight for _, weight in pairs)
    support, weights = zip(*((peak, weight / total) for peak, weight in pairs), strict=True)
    need = sum(peak * weight for peak, weight in zip(support, weights, strict=True))
    choices = {choice.first_bytes: choice for choice in trade_off(peaks, [asked], ttf=ttf)}
    for first in {asked, max(support)}:
        later = [peak for peak in sorted(set(support)) if peak > first]
        costs = [
            expected_cost(
                (first, *rest), support, weights, ttf=ttf, delay=0, price=0, masses=weights
            )
            for rest in (every_ladder(later) if later else [()])
        ]
        choice = choices[first]
        assert choice.held_bytes == pytest.approx(min(costs) + need)
        assert choice.cost_ratio == pytest.approx((min(costs) + need) / need)
        short = sum(w for peak, w in zip(support, weights, strict=True) if peak > first)
        assert choice.failure_probability == pytest.approx(short)


@pytest.mark.parametrize("protocol", [WARM, COLD])
def test_no_constant_ladder_is_better_than_the_one_of_hindsight(protocol: str) -> None:
    path = trace_path("rnaseq")
    setting = Setting(protocol=protocol, seeds=(7,))
    tasks = parse_nextflow(path.read_text(), "rnaseq").tasks
    (best,) = replay(tasks, methods(setting)["best_constant"], setting, time.perf_counter)
    by_process: dict[str, list[tuple[float, float, float]]] = {}
    for task in best.tasks:
        by_process.setdefault(task.process, []).append(
            (task.peak_bytes, task.runtime_ms, task.wastage_gbh)
        )
    for samples in by_process.values():
        peaks = sorted({peak for peak, _, _ in samples})
        ours = sum(wasted for _, _, wasted in samples) * 1e9 * 3_600_000
        times = [time_ms for _, time_ms, _ in samples]
        actual = [peak for peak, _, _ in samples]
        # Every ladder of one or two rungs below the top.
        for first in peaks:
            for ladder in ((first, peaks[-1]), (peaks[-1],)):
                cost = expected_cost(
                    ladder, actual, times, ttf=1.0, delay=0.0, price=0.0, masses=times
                )
                assert ours <= cost * (1 + 1e-9) + 1e-6
