"""What a replay is told, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cu_market.dnm.renegotiation import Spread
from cu_market.dnm.schedule import JointPlan, Workload
from cu_market.sim.inputs import SpotTrace


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """One attempt of a task on a CU, in milliseconds; an attempt that was preempted has failed."""

    task_id: str
    cu_id: str
    machine: str
    is_spot: bool
    start_ms: float
    end_ms: float
    has_failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a replay.

    Attributes:
        cost_microusd: all CUs, each priced once.
        finish_ms: end of the last task.
        failed_attempts: attempts that preemption ended.
        moves: tasks that ran elsewhere than planned.
        stays: every attempt, by start.
    """

    cost_microusd: int
    finish_ms: float
    failed_attempts: int
    moves: int
    stays: tuple[Stay, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a replay is told.

    Attributes:
        workload: the tasks as recorded, the machines, the deadline.
        expected_ms: the forecast by task: medians.
        spreads: of what happens about them, by task; exact where not given.
        plan: where each task goes.
        spot_cus: cu_ids of the plan that are bought as spot.
        trace: of spot, or None where it never ends.
        offset: the trace's point at which the replay begins.
        spot_permille: spot price in thousandths of the price on demand.
        reacts: whether what has not started is moved.
    """

    workload: Workload
    expected_ms: Mapping[str, int]
    plan: JointPlan
    spreads: Mapping[str, Spread] = field(default_factory=dict)
    spot_cus: frozenset[str] = frozenset()
    trace: SpotTrace | None = None
    offset: int = 0
    spot_permille: int = 350
    reacts: bool = True

    def forecast(self) -> Workload:
        """Returns the workload as it is forecast."""
        tasks = tuple(
            replace(task, duration_ms=self.expected_ms[task.task_id])
            for task in self.workload.tasks
        )
        return replace(self.workload, tasks=tasks)
