"""The learned predictor under whatever it may meet."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cu_market.domain.spec import Risk
from cu_market.pse.models.calibration import Calibration
from cu_market.pse.models.censoring import with_running
from cu_market.pse.models.experts import COUNT, ask_experts
from cu_market.pse.models.history import WINDOW
from cu_market.pse.models.mixture import expert_weights, losses_of, pooled
from cu_market.pse.models.predictor import LearnedPredictor
from cu_market.pse.protocols.predictor import Interval, Outcome, Question
from cu_market.pse.protocols.score import climb

SIZES = st.one_of(st.none(), st.just(0.0), st.floats(1, 1e15))
TASKS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b:c", ""]),
        SIZES,
        st.one_of(st.none(), st.floats(1e6, 1e12)),
        st.one_of(st.just(0.0), st.floats(1e3, 1e13)),
        st.one_of(st.just(0.0), st.floats(0, 1e10)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(tasks=TASKS, risk=st.sampled_from(list(Risk)), running=st.lists(st.floats(0, 1e9)))
def test_ladders_rise_and_intervals_are_ordered_whatever_was_seen(
    tasks: list[tuple[str, float | None, float | None, float, float]],
    risk: Risk,
    running: list[float],
) -> None:
    predictor = LearnedPredictor(risk=risk)
    for process, size, preset, peak, runtime in tasks:
        question = Question(
            process=process, input_bytes=size, preset_bytes=preset, running_ms=tuple(running)
        )
        answer = predictor.predict(question)
        assert answer == predictor.predict(question)
        assert list(answer.ladder) == sorted(set(answer.ladder))
        assert 0 < answer.ladder[0] < math.inf
        climb(answer.ladder, 1e12)
        assert 0 <= answer.memory.p10 <= answer.memory.p50 <= answer.memory.p90 < math.inf
        if answer.history_count:
            runtime_s = answer.runtime
            assert 0 <= runtime_s.p10 <= runtime_s.p50 <= runtime_s.p90 < math.inf
        predictor.learn(question, Outcome(peak_bytes=peak, runtime_ms=runtime))


def test_the_state_of_ten_thousand_attempts_is_bounded() -> None:
    predictor = LearnedPredictor()
    source = np.random.RandomState(1)
    question = Question(process="p", input_bytes=1e9, preset_bytes=8e9)
    for _ in range(WINDOW + 20):
        peak = 1e9 * float(source.uniform(0.9, 1.1))
        predictor.learn(question, Outcome(peak_bytes=peak, runtime_ms=5e4))
    history = predictor.histories["p"]
    full = history.nbytes
    for _ in range(10_000 - WINDOW - 20):
        loss = np.zeros(COUNT)
        history.add(1e9, 1e9, 5e4, 8e9, loss, loss)
    assert (history.total, len(history)) == (10_000, WINDOW)
    assert history.nbytes == full <= 40_000
    assert predictor.predict(question).history_count == 10_000


def test_a_line_is_found_and_believed() -> None:
    predictor = LearnedPredictor(risk=Risk.COST)
    source = np.random.RandomState(2)
    for _ in range(40):
        size = float(source.uniform(1e9, 1e10))
        question = Question(process="p", input_bytes=size, preset_bytes=1e11)
        predictor.learn(question, Outcome(peak_bytes=1e9 + 3 * size, runtime_ms=size / 1e5))
    for size in (2e9, 5e9, 9e9):
        answer = predictor.predict(Question(process="p", input_bytes=size, preset_bytes=1e11))
        assert answer.memory.p50 == pytest.approx(1e9 + 3 * size, rel=0.1)
        assert answer.runtime.p50 == pytest.approx(size / 1e8, rel=0.1)
        assert answer.ladder[0] < 1.3 * (1e9 + 3 * size)


def test_memory_that_levels_off_is_not_taken_for_a_line() -> None:
    predictor = LearnedPredictor(risk=Risk.COST)
    source = np.random.RandomState(3)
    for _ in range(80):
        size = float(10 ** source.uniform(8, 11))
        peak = min(2e9 + size, 1.1e10) * float(source.uniform(0.995, 1.005))
        question = Question(process="p", input_bytes=size, preset_bytes=6e10)
        predictor.learn(question, Outcome(peak_bytes=peak, runtime_ms=size / 1e5))
    answer = predictor.predict(Question(process="p", input_bytes=1.2e11, preset_bytes=6e10))
    assert answer.ladder[0] < 1.3e10


def test_namesakes_lend_more_than_strangers() -> None:
    predictor = LearnedPredictor(risk=Risk.COST)
    for process, ratio in (("X:FASTQC", 0.05), ("X:ALIGN", 0.9)):
        for _ in range(10):
            predictor.learn(
                Question(process=process, input_bytes=1e9, preset_bytes=1e10),
                Outcome(peak_bytes=ratio * 1e10, runtime_ms=6e4),
            )
    like_fastqc = predictor.predict(
        Question(process="Y:FASTQC_2", input_bytes=1e9, preset_bytes=2e10)
    )
    like_align = predictor.predict(
        Question(process="Y:ALIGN_2", input_bytes=1e9, preset_bytes=2e10)
    )
    assert like_fastqc.memory.p50 < 0.5 * 2e10 < like_align.memory.p50
    assert like_fastqc.ladder[0] < 0.2 * 2e10
    assert max(like_align.memory.p90, like_fastqc.memory.p90) <= 2e10


@pytest.mark.parametrize("cold", [True, False])
def test_risk_orders_the_first_allocation(cold: bool) -> None:
    first = []
    for risk in Risk:
        predictor = LearnedPredictor(risk=risk)
        source = np.random.RandomState(4)
        question = Question(process="p", input_bytes=1e9, preset_bytes=2e10)
        for _ in range(0 if cold else 20):
            peak = 1e9 * float(source.uniform(0.5, 3))
            predictor.learn(question, Outcome(peak_bytes=peak, runtime_ms=6e4))
        first.append(predictor.predict(question).ladder[0])
    assert first == sorted(first)
    assert first[0] < first[-1]
    if cold:
        assert first[-1] == 2e10


@given(
    values=st.lists(st.floats(1, 1e6), min_size=1, max_size=20),
    elapsed=st.lists(st.floats(0, 1e7), max_size=30),
)
def test_running_tasks_only_lengthen_a_runtime(values: list[float], elapsed: list[float]) -> None:
    masses = np.full(len(values), 1 / len(values))
    pool = pooled(np.array(values), masses, masses)
    found = with_running(pool, elapsed, len(values))
    assert found.masses.sum() == pytest.approx(1)
    for ratio in (0.1, 0.5, 0.9):
        assert found.quantile(ratio) >= pool.quantile(ratio) * (1 - 1e-9)


def test_a_running_tasks_mass_goes_to_what_is_longer() -> None:
    masses = np.full(4, 0.25)
    pool = pooled(np.array([1.0, 2.0, 3.0, 4.0]), masses, masses)
    found = with_running(pool, [2.5], 4)
    # Five samples of a fifth each; the running one's fifth is shared by 3 and 4.
    assert found.masses == pytest.approx([0.2, 0.2, 0.3, 0.3])


def test_an_end_that_is_passed_too_often_moves_out_until_it_is_not() -> None:
    source = np.random.RandomState(6)
    calibration, missed = Calibration(), 0
    raw = Interval(p10=9.0, p50=10.0, p90=11.0)
    for turn in range(2000):
        actual = 10 + 2 * float(source.standard_normal())
        given = calibration.adjust(raw)
        missed += turn >= 1000 and not given.p10 <= actual <= given.p90
        calibration.learn(raw, actual)
    assert 0.76 <= 1 - missed / 1000 <= 0.84


@given(
    pairs=st.lists(st.tuples(st.floats(1, 1e12), st.floats(1, 1e12)), min_size=1, max_size=30),
    at=st.floats(1, 1e13),
)
def test_experts_answer_with_masses_that_sum_to_one(
    pairs: list[tuple[float, float]], at: float
) -> None:
    x, y = (np.array([pair[place] for pair in pairs]) for place in (0, 1))
    answers = ask_experts(x, y, at)
    assert answers.values.shape == answers.weights.shape == (COUNT, len(pairs))
    assert np.isfinite(answers.values).all()
    assert answers.weights.sum(axis=1) == pytest.approx(np.ones(COUNT))
    losses = losses_of(answers, float(y[0]))
    assert ((losses >= 0) & (losses <= 2)).all()
    weights = expert_weights(x, y, np.tile(losses, (len(pairs), 1)), at)
    assert weights.sum() == pytest.approx(1)


def test_an_interval_is_judged_by_what_was_known_when_its_task_began() -> None:
    burst = [Question(process="p", input_bytes=1e9, at_ms=float(n)) for n in range(20)]
    asked, unasked = LearnedPredictor(), LearnedPredictor()
    for predictor in (asked, unasked):
        for n in range(5):
            early = Question(process="p", input_bytes=1e9, at_ms=-10.0 - n)
            predictor.learn(early, Outcome(peak_bytes=1e9 + 1e6 * n, runtime_ms=60_000 + n))
    for question in burst:
        asked.predict(question)  # all of them begin before any ends
    for predictor in (asked, unasked):
        for question in burst:
            predictor.learn(question, Outcome(peak_bytes=1e9, runtime_ms=180_000))
    later = Question(process="p", input_bytes=1e9, at_ms=100.0)
    slow, quick = asked.predict(later).runtime, unasked.predict(later).runtime
    # Twenty surprises of one kind, not one surprise and nineteen that were foreseen.
    assert slow.p50 == quick.p50
    assert slow.p90 - slow.p50 > 1.5 * (quick.p90 - quick.p50)
