"""Which CUs of a plan are bought as spot: where a retry fits, or one is hardly ever needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from cu_market.dnm.schedule import JointPlan, PlannedCU, Workload
from cu_market.sim.inputs import SpotTrace
from cu_market.sim.replay import tails_ms

RISK_RATIO = 0.006
"""Of replays that may end late by preemption of CUs on which no retry fits."""


def falls_per_ms(trace: SpotTrace) -> float:
    """Returns how often spot falls away, per millisecond in which it can be had."""
    points = trace.available
    falls = sum(a and not b for a, b in pairwise(points))
    return falls / max(1, sum(points) * trace.gap_ms)


def retriable(plan: JointPlan, truth: Workload, expected: Mapping[str, int]) -> frozenset[str]:
    """Returns the CUs on which every task may be lost at its last moment, start again at once on
    demand, and still leave enough time for all that follows."""
    tails = tails_ms(truth.tasks, expected)
    return frozenset(
        cu.cu_id
        for cu in plan.cus
        if all(stay.end_ms + tails[stay.task_id] <= truth.deadline_ms for stay in cu.stays)
    )


def choose_spot(
    plan: JointPlan, truth: Workload, expected: Mapping[str, int], trace: SpotTrace
) -> frozenset[str]:
    """Returns the CUs to buy as spot.

    Those on which a retry fits, and of the others, dearest for their time first, as many as keep
    falls per ms x the time in which any of them runs below RISK_RATIO: all spot falls at once, so
    CUs that run at the same time share one risk.
    """
    chosen = retriable(plan, truth, expected)
    rate = falls_per_ms(trace)
    risky: list[PlannedCU] = []
    others = [cu for cu in plan.cus if cu.cu_id not in chosen]
    for cu in sorted(others, key=lambda cu: (-cu.cost_microusd / _span_ms(cu), cu.cu_id)):
        if rate * union_ms([(c.start_ms, c.end_ms) for c in (*risky, cu)]) <= RISK_RATIO:
            risky.append(cu)
    return chosen | {cu.cu_id for cu in risky}


def union_ms(spans: Sequence[tuple[int, int]]) -> int:
    """Returns how long at least one of these spans goes on."""
    total, until = 0, None
    for start, end in sorted(spans):
        begin = start if until is None else max(start, until)
        total += max(0, end - begin)
        until = end if until is None else max(until, end)
    return total


def _span_ms(cu: PlannedCU) -> int:
    return max(1, cu.end_ms - cu.start_ms)
