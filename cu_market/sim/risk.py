"""Which CUs of a plan are bought as spot: where a retry fits, or one is hardly ever needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from cu_market.dnm.schedule import JointPlan, PlannedCU, Workload
from cu_market.sim.inputs import SpotTrace
from cu_market.sim.paths import tails_ms

RISK_RATIO = 0.006
"""Of replays that may end late by preemption of CUs on which no retry fits."""


def falls_per_ms(trace: SpotTrace) -> float:
    """Returns how often spot falls away, per millisecond in which it can be had."""
    points = trace.available
    falls = sum(a and not b for a, b in pairwise(points))
    return falls / max(1, sum(points) * trace.gap_ms)


def hurtful_ms(cu: PlannedCU, deadline_ms: int, tails: Mapping[str, int]) -> list[tuple[int, int]]:
    """Returns when a CU's loss would make the run late: the last times of its tasks from which one
    that starts again at once on demand no longer leaves enough time for all that follows."""
    found = []
    for stay in cu.stays:
        begin = max(stay.start_ms, deadline_ms - tails[stay.task_id])
        if begin < stay.end_ms:
            found.append((begin, stay.end_ms))
    return found


def choose_spot(
    plan: JointPlan, truth: Workload, expected: Mapping[str, int], trace: SpotTrace
) -> frozenset[str]:
    """Returns the CUs to buy as spot.

    Those whose loss never hurts, and of the others, dearest for the time in which it would first,
    as many as keep falls per ms x the time in which any loss would hurt below RISK_RATIO: all spot
    falls at once, so CUs that run at the same time share one risk.
    """
    tails = tails_ms(truth.tasks, expected)
    hurtful = {cu.cu_id: hurtful_ms(cu, truth.deadline_ms, tails) for cu in plan.cus}
    rate = falls_per_ms(trace)

    def value(cu: PlannedCU) -> tuple[float, str]:
        return -cu.cost_microusd / max(1, union_ms(hurtful[cu.cu_id])), cu.cu_id

    chosen: set[str] = set()
    risky: list[tuple[int, int]] = []
    for cu in sorted(plan.cus, key=value):
        if rate * union_ms([*risky, *hurtful[cu.cu_id]]) <= RISK_RATIO:
            risky += hurtful[cu.cu_id]
            chosen.add(cu.cu_id)
    return frozenset(chosen)


def surviving(plan: JointPlan, trace: SpotTrace, offset: int) -> frozenset[str]:
    """Returns the CUs that could be spot throughout, in a replay that starts at point offset."""
    found = set()
    for cu in plan.cus:
        begin = min(stay.start_ms for stay in cu.stays)
        fall = trace.next_fall_ms(begin, offset)
        end = max(stay.end_ms for stay in cu.stays)
        if trace.is_available(begin, offset) and (fall is None or fall > end):
            found.add(cu.cu_id)
    return frozenset(found)


def union_ms(spans: Sequence[tuple[int, int]]) -> int:
    """Returns how long at least one of these spans goes on."""
    total, until = 0, None
    for start, end in sorted(spans):
        begin = start if until is None else max(start, until)
        total += max(0, end - begin)
        until = end if until is None else max(until, end)
    return total
