"""A CU that a replay has now: its room, what runs on it, and its bill."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cu_market.dnm.schedule import MachineType, Task
from cu_market.domain.units import lease_cost_microusd


@dataclass(slots=True, eq=False)
class LiveCU:
    """A CU that is had now.

    Attributes:
        cu_id: unique in a replay.
        machine: its type.
        is_spot: whether it may be preempted, and costs less.
        home: the planned CU that it stands for.
        free_cpu, free_memory: milli-cores and bytes.
        running: each task's process.
        began: when each running task started, milliseconds.
        first_ms, last_ms: of the first start and the last end; None before.
        ran: (task_id, start, end) of what has ended on it.
    """

    cu_id: str
    machine: MachineType
    is_spot: bool
    home: str
    free_cpu: int
    free_memory: int
    running: dict[str, Any] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)
    first_ms: float | None = None
    last_ms: float = 0.0
    ran: list[tuple[str, int, int]] = field(default_factory=list)

    @classmethod
    def of(cls, cu_id: str, machine: MachineType, home: str, *, is_spot: bool) -> LiveCU:
        """Returns an empty one."""
        return cls(
            cu_id=cu_id,
            machine=machine,
            is_spot=is_spot,
            home=home,
            free_cpu=machine.cpu_millis,
            free_memory=machine.memory_bytes,
        )

    def has_room(self, task: Task) -> bool:
        """Whether the task fits beside what runs."""
        return self.free_cpu >= task.cpu_millis and self.free_memory >= task.memory_bytes

    def start(self, task: Task, now_ms: float, process: Any) -> None:
        """Gives the task its room."""
        self.free_cpu -= task.cpu_millis
        self.free_memory -= task.memory_bytes
        if self.first_ms is None:
            self.first_ms = now_ms
        self.began[task.task_id] = now_ms
        self.running[task.task_id] = process

    def end(self, task: Task, now_ms: float) -> None:
        """Takes the task's room back."""
        self.ran.append((task.task_id, round(self.began.pop(task.task_id)), round(now_ms)))
        del self.running[task.task_id]
        self.free_cpu += task.cpu_millis
        self.free_memory += task.memory_bytes
        self.last_ms = now_ms

    def bill(self, price_microusd_per_hour: int) -> int:
        """Returns micro-dollars from its first start to its last end; 0 where nothing started."""
        if self.first_ms is None:
            return 0
        billed = self.machine.billed_ms(round(self.last_ms - self.first_ms))
        return lease_cost_microusd(price_microusd_per_hour, billed)
