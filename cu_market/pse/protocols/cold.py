"""Protocol C, what a user meets: in order of start time, from nothing.

A task may learn only from tasks that completed (complete <= its start), from which tasks run since
when, from presets, names and input bytes. Rows without a peak are dropped; rows with realtime 0
waste nothing and count as completions. The target is the peak.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Sequence

from cu_market.pse.protocols.predictor import Outcome, Predictor, Question
from cu_market.pse.protocols.replay import Clock, Replay, Watched
from cu_market.pse.protocols.score import Replayed, score
from cu_market.pse.traces.task import Task


def cold_tasks(tasks: Sequence[Task]) -> list[Task]:
    """Returns the tasks that the protocol keeps, in order of start, then of the trace's lines."""
    kept = [
        task
        for task in tasks
        if (task.peak_rss_bytes or 0) > 0
        and task.realtime_ms is not None
        and task.start_ms is not None
    ]
    return sorted(kept, key=lambda task: (task.start_ms or 0.0, task.row))


def coarse(input_bytes: float | None) -> float | None:
    """Returns bytes rounded to a power of two (in the logarithm), as roughly as life knows them."""
    return 2.0 ** round(math.log2(input_bytes)) if input_bytes else input_bytes


def replay_cold(
    tasks: Sequence[Task],
    make_predictor: Callable[[Sequence[Task]], Predictor],
    *,
    clock: Clock,
    ttf: float = 1.0,
    is_coarse: bool = False,
) -> Replay:
    """Returns protocol C's replay of a trace.

    Args:
        tasks: the trace's.
        make_predictor: returns a predictor that knows nothing of the trace; it is given the tasks
            that will be replayed, which only a rule chosen in hindsight may look at.
        clock: seconds, for the figures of speed.
        ttf: how much of its time a failed attempt takes.
        is_coarse: whether input bytes are known only as a power of two.
    """
    order = cold_tasks(tasks)
    watched = Watched(make_predictor(order), clock)
    ends: list[tuple[float, int, Question, Outcome]] = []
    running: defaultdict[str, dict[int, float]] = defaultdict(dict)
    replayed: list[Replayed] = []
    for task in order:
        now = task.start_ms or 0.0
        while ends and ends[0][0] <= now:
            _, row, question, outcome = heapq.heappop(ends)
            del running[question.process][row]
            watched.learn(question, outcome)
        since = running[task.process]
        question = Question(
            process=task.process,
            input_bytes=coarse(task.input_bytes) if is_coarse else task.input_bytes,
            preset_bytes=task.preset_bytes,
            at_ms=now,
            running_ms=tuple(now - start for start in since.values()),
            cpus=task.cpus,
        )
        outcome = Outcome(peak_bytes=task.peak_rss_bytes or 0.0, runtime_ms=task.realtime_ms or 0.0)
        answer = watched.predict(question)
        replayed.append(
            score(task.row, task.process, outcome.peak_bytes, outcome.runtime_ms, answer, ttf)
        )
        since[task.row] = now
        end = task.complete_ms if task.complete_ms is not None else now + outcome.runtime_ms
        heapq.heappush(ends, (end, task.row, question, outcome))
    return watched.replay(0, replayed)
