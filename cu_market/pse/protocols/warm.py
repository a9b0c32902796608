"""Protocol W, the published one (Bader et al., "Sizey", CLUSTER 2024): warm, process by process.

Rows with a resident size; processes with at least 34 of them and no realtime of 0. Each is split
as scikit-learn's train_test_split(test_size=0.7, random_state=seed) does: three in ten are learned
from at no cost, the others are asked about in the split's order, each learned from afterwards.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from cu_market.pse.protocols.predictor import Outcome, Predictor, Question
from cu_market.pse.protocols.replay import Clock, Replay, Watched
from cu_market.pse.protocols.score import Replayed, score
from cu_market.pse.traces.task import Task

SEEDS = (1996, 7, 42, 1, 2)
MIN_ROWS = 34
REPLAYED_RATIO = 0.7


def warm_processes(tasks: Sequence[Task]) -> dict[str, list[Task]]:
    """Returns the tasks that the protocol keeps, by process, both in the trace's order."""
    kept: defaultdict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        if (task.rss_bytes or 0) > 0 and task.realtime_ms is not None:
            kept[task.process].append(task)
    return {
        process: rows
        for process, rows in kept.items()
        if len(rows) >= MIN_ROWS and all(task.realtime_ms for task in rows)
    }


def split_rows(count: int, seed: int) -> tuple[list[int], list[int]]:
    """Returns the places of the warm-up and of the replay, in their order.

    The permutation is numpy's legacy one, of which scikit-learn takes the test part first.
    """
    order = np.random.RandomState(seed).permutation(count)
    replayed = math.ceil(REPLAYED_RATIO * count)
    return [int(place) for place in order[replayed:]], [int(place) for place in order[:replayed]]


def replay_warm(
    tasks: Sequence[Task],
    make_predictor: Callable[[Sequence[Task]], Predictor],
    *,
    seed: int,
    clock: Clock,
    ttf: float = 1.0,
) -> Replay:
    """Returns protocol W's replay of a trace.

    Args:
        tasks: the trace's.
        make_predictor: returns a predictor that knows nothing of the trace; it is given the tasks
            that will be replayed, which only a rule chosen in hindsight may look at.
        seed: of the split.
        clock: seconds, for the figures of speed.
        ttf: how much of its time a failed attempt takes.
    """
    kept = warm_processes(tasks)
    plans = {process: split_rows(len(rows), seed) for process, rows in kept.items()}
    asked = [kept[process][place] for process, (_, after) in plans.items() for place in after]
    predictor = make_predictor(asked)
    watched = Watched(predictor, clock)
    replayed: list[Replayed] = []
    for process, (before, after) in plans.items():
        rows = kept[process]
        for place in before:
            predictor.learn(*_lesson(rows[place]))
        for place in after:
            question, outcome = _lesson(rows[place])
            answer = watched.predict(question)
            replayed.append(
                score(rows[place].row, process, outcome.peak_bytes, outcome.runtime_ms, answer, ttf)
            )
            watched.learn(question, outcome)
    return watched.replay(seed, replayed)


def _lesson(task: Task) -> tuple[Question, Outcome]:
    question = Question(
        process=task.process,
        input_bytes=task.input_bytes,
        preset_bytes=task.preset_bytes,
        cpus=task.cpus,
    )
    return question, Outcome(peak_bytes=task.rss_bytes or 0.0, runtime_ms=task.realtime_ms or 0.0)
