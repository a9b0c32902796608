"""What a replay is told, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from cu_market.dnm.renegotiation import Spread
from cu_market.dnm.schedule import JointPlan, MachineType, Workload
from cu_market.pse import Forecast
from cu_market.sim.inputs import SpotTrace


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """One attempt of a task on a CU, in milliseconds, and the memory reserved for it in bytes; one
    that was preempted or ran out of memory has failed."""

    task_id: str
    cu_id: str
    machine: str
    is_spot: bool
    start_ms: float
    end_ms: float
    has_failed: bool = False
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a replay.

    Attributes:
        cost_microusd: all CUs, each priced once.
        finish_ms: end of the last task.
        failed_attempts: attempts that preemption ended.
        moves: tasks that ran elsewhere than planned.
        stays: every attempt, by start.
        egress_bytes: moved from one location to another.
    """

    cost_microusd: int
    finish_ms: float
    failed_attempts: int
    moves: int
    stays: tuple[Stay, ...]
    egress_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotPrices:
    """What spot costs.

    Attributes:
        permille: of the price on demand, in thousandths, where the catalogue has no spot price.
        by_type: micro-dollars an hour, of the types of which it has one.
    """

    permille: int = 350
    by_type: Mapping[str, int] = field(default_factory=dict)

    def of(self, machine: MachineType) -> int:
        """Returns micro-dollars an hour."""
        found = self.by_type.get(machine.name)
        return machine.price_microusd_per_hour * self.permille // 1000 if found is None else found

    def least_permille(self, machines: Iterable[MachineType]) -> int:
        """Returns the least spot price of any type in thousandths of its price on demand, rounded
        down: so much of a bound on demand is a bound for spot."""
        ratios = [
            1000 * self.of(m) // m.price_microusd_per_hour
            for m in machines
            if m.price_microusd_per_hour
        ]
        return min([1000, *ratios])


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What tasks hand to each other, and where.

    Attributes:
        moved: bytes that a task reads of what a parent has written: by (parent, task).
        locations: by machine type.
    """

    moved: Mapping[tuple[str, str], int] = field(default_factory=dict)
    locations: Mapping[str, str] = field(default_factory=dict)

    def egress_bytes(self, stays: Iterable[Stay]) -> int:
        """Returns the bytes that crossed from one location to another."""
        where = {s.task_id: self.locations.get(s.machine, "") for s in stays if not s.has_failed}
        return sum(
            size
            for (parent, task), size in self.moved.items()
            if where.get(parent) != where.get(task)
        )


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
        spot: what spot costs.
        reserved: memory in bytes by task, where forecasts of it may be wrong; else the workload's.
        foreseen: of memory, where history knows it: says what follows what was not enough.
        peaks: memory in bytes that tasks really reach, where it is known.
        traffic: what is moved between tasks, and where the types are.
        reacts: whether what has not started is moved.
    """

    workload: Workload
    expected_ms: Mapping[str, int]
    plan: JointPlan
    spreads: Mapping[str, Spread] = field(default_factory=dict)
    spot_cus: frozenset[str] = frozenset()
    trace: SpotTrace | None = None
    offset: int = 0
    spot: SpotPrices = field(default_factory=SpotPrices)
    reserved: Mapping[str, int] = field(default_factory=dict)
    foreseen: Mapping[str, Forecast] = field(default_factory=dict)
    peaks: Mapping[str, int] = field(default_factory=dict)
    traffic: Traffic = field(default_factory=Traffic)
    reacts: bool = True

    def forecast(self) -> Workload:
        """Returns the workload as it is forecast."""
        tasks = tuple(
            replace(task, duration_ms=self.expected_ms[task.task_id]) for task in self.held().tasks
        )
        return replace(self.workload, tasks=tasks)

    def held(self) -> Workload:
        """Returns the workload with the memory that is reserved for its tasks."""
        if not self.reserved:
            return self.workload
        tasks = tuple(
            replace(task, memory_bytes=self.reserved.get(task.task_id, task.memory_bytes))
            for task in self.workload.tasks
        )
        return replace(self.workload, tasks=tasks)
