from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from trace_samples import make_tasks

from cu_market.cli.pse.evaluate import attempt_rows
from cu_market.domain.spec import Risk
from cu_market.pse.models.predictor import LearnedPredictor
from cu_market.pse.protocols.cold import coarse, replay_cold
from cu_market.pse.protocols.compare import lenders_of_trace
from cu_market.pse.protocols.predictor import Interval, Outcome, Prediction, Question
from cu_market.pse.protocols.score import climb, coverage, pinball, score
from cu_market.pse.protocols.warm import replay_warm, warm_processes
from cu_market.pse.traces.task import Task

PRIOR = (lenders_of_trace(make_tasks(90, seed=8)),)


def still() -> float:
    return 0.0


def learned(_: Sequence[Task]) -> LearnedPredictor:
    return LearnedPredictor(elsewhere=PRIOR, risk=Risk.COST)


def cold_rows(tasks: Sequence[Task], *, is_coarse: bool = False) -> list[tuple[object, ...]]:
    return list(attempt_rows([replay_cold(tasks, learned, clock=still, is_coarse=is_coarse)]))


@pytest.mark.parametrize("is_coarse", [False, True])
def test_cold_attempts_do_not_change_when_what_is_later_does(is_coarse: bool) -> None:
    tasks = make_tasks(120)
    cut = tasks[70].start_ms or 0.0
    source = random.Random(3)
    changed = [
        replace(
            task,
            input_bytes=source.uniform(1, 1e12),
            peak_rss_bytes=source.uniform(1e6, 1e11),
            realtime_ms=source.uniform(1, 1e7),
            preset_bytes=source.uniform(1e8, 1e11),
            complete_ms=(task.complete_ms or 0.0) + 1e6,
        )
        if (task.start_ms or 0.0) > cut
        else task
        for task in tasks
    ]
    # What a task used and when it ended becomes known only when it has completed.
    for place, task in enumerate(changed):
        if (task.start_ms or 0.0) <= cut < (task.complete_ms or 0.0):
            changed[place] = replace(task, realtime_ms=1e6, complete_ms=(task.start_ms or 0) + 1e6)
    early = {task.row for task in tasks if (task.start_ms or 0.0) <= cut}
    before = [row for row in cold_rows(tasks, is_coarse=is_coarse) if row[2] in early]
    after = [row for row in cold_rows(changed, is_coarse=is_coarse) if row[2] in early]
    assert len(before) >= 71
    assert before == after
    assert cold_rows(tasks) != cold_rows(changed)


def test_warm_attempts_do_not_change_when_what_is_later_does() -> None:
    tasks = make_tasks(150)
    replayed = replay_warm(tasks, learned, seed=7, clock=still)
    rows = list(attempt_rows([replayed]))
    victim = replayed.tasks[len(replayed.tasks) // 2].row
    changed = [
        replace(task, rss_bytes=1e10, realtime_ms=1e7) if task.row == victim else task
        for task in tasks
    ]
    again = list(attempt_rows([replay_warm(changed, learned, seed=7, clock=still)]))
    first = next(place for place, row in enumerate(rows) if row[2] == victim)
    assert again[: first + 1] == rows[: first + 1]
    assert again[first + 1 :] != rows[first + 1 :]


def test_a_task_is_not_told_of_itself_or_of_what_still_runs() -> None:
    class Recorder:
        def __init__(self) -> None:
            self.learned: list[float] = []
            self.asked: list[tuple[Question, int]] = []

        def predict(self, question: Question) -> Prediction:
            self.asked.append((question, len(self.learned)))
            return Prediction(ladder=(1e12,))

        def learn(self, question: Question, outcome: Outcome) -> None:
            self.learned.append(outcome.peak_bytes)

    def task(row: int, start: float, end: float, peak: float | None) -> Task:
        return Task(
            row=row,
            process="p",
            peak_rss_bytes=peak,
            realtime_ms=end - start,
            start_ms=start,
            complete_ms=end,
        )

    tasks = [task(0, 10, 30, 1.0), task(1, 0, 20, 2.0), task(2, 20, 25, 3.0), task(3, 5, 6, None)]
    recorder = Recorder()
    replay_cold(tasks, lambda _: recorder, clock=still)
    assert [(q.at_ms, q.running_ms, count) for q, count in recorder.asked] == [
        (0, (), 0),
        (10, (10,), 0),
        (20, (10,), 1),
    ]
    assert recorder.learned == [2.0]  # those that end after the last start teach nobody


def test_the_warm_protocol_keeps_processes_with_enough_rows_and_no_realtime_of_zero() -> None:
    tasks = make_tasks(120)
    assert {name: len(rows) for name, rows in warm_processes(tasks).items()} == {
        f"FLOW:STEP_{letter}": 40 for letter in "ABC"
    }
    spoilt = [replace(tasks[0], realtime_ms=0.0), *tasks[1:]]
    assert "FLOW:STEP_A" not in warm_processes(spoilt)
    few = [replace(task, rss_bytes=0.0) if task.row < 21 else task for task in tasks]
    assert warm_processes(few) == {}


def test_climbing_tries_the_rungs_and_then_doubles() -> None:
    assert climb((2, 5), 1) == (2,)
    assert climb((2, 5), 5) == (2, 5)
    assert climb((2, 5), 11) == (2, 5, 10, 20)
    for broken in ((0.0,), (5.0, 5.0), (float("nan"),)):
        with pytest.raises(ValueError, match="does not rise"):
            climb(broken, 6)


def test_wastage_is_failed_attempts_and_what_the_last_one_left_over() -> None:
    scored = score(0, "p", 3e9, 3_600_000, Prediction(ladder=(1e9, 4e9)), ttf=0.5)
    assert scored.wastage_gbh == pytest.approx(0.5 * 1 + (4 - 3))
    assert scored.allocations == (1e9, 4e9)


def test_coverage_and_pinball_by_hand() -> None:
    pairs = [(Interval(p10=1, p50=2, p90=3), 3.0), (Interval(p10=1, p50=2, p90=3), 5.0)]
    assert coverage(pairs) == 0.5
    expected = (0.1 * 2 + 0.9 * 0) + (0.1 * 4 + 0.9 * 2)
    assert pinball(pairs) == pytest.approx(expected / 8)


def test_coarse_bytes_are_powers_of_two() -> None:
    assert [coarse(size) for size in (None, 0.0, 1.0, 5.0, 6.0, 1000.0)] == [
        None, 0.0, 1.0, 4.0, 8.0, 1024.0,
    ]  # fmt: skip
