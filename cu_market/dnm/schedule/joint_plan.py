"""A joint plan: which CU runs which task when, what it costs, what is proved."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStay:
    """A task's time on a CU, in milliseconds after the plan's time."""

    task_id: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCU:
    """One CU that is had once, from its first task's start to its last task's end.

    Attributes:
        cu_id: unique in the plan: the type's name and a number.
        machine: name of the type.
        stays: by start, then task.
        billed_ms: start-up included, at least the minimum.
        cost_microusd: its bill.
    """

    cu_id: str
    machine: str
    stays: tuple[PlannedStay, ...]
    billed_ms: int
    cost_microusd: int

    @property
    def start_ms(self) -> int:
        """First start."""
        return min(stay.start_ms for stay in self.stays)

    @property
    def end_ms(self) -> int:
        """Last end."""
        return max(stay.end_ms for stay in self.stays)


@dataclass(frozen=True, slots=True, kw_only=True)
class JointPlan:
    """The outcome, verified in exact integers.

    Attributes:
        cus: by first start.
        unplaced: tasks that no type holds, or that cannot end in time even alone.
        cost_microusd: sum of the bills.
        bound_microusd: no schedule of the same tasks costs less.
        found_by: what found the schedule: ``insertion``, ``one c6a.large``, ``search``, ...
        rounds: of the search.
        is_cut: the clock ended the search, so that another run might differ.
        construction_ms, search_ms, bound_ms: spent, where a clock was given.
    """

    cus: tuple[PlannedCU, ...]
    unplaced: tuple[str, ...] = ()
    cost_microusd: int
    bound_microusd: int
    found_by: str = ""
    rounds: int = 0
    is_cut: bool = False
    construction_ms: int = field(default=0, compare=False)
    search_ms: int = field(default=0, compare=False)
    bound_ms: int = field(default=0, compare=False)

    @property
    def gap_ratio(self) -> float:
        """(cost - bound) / cost, 0 where nothing is paid."""
        if self.cost_microusd <= 0:
            return 0.0
        return max(0, self.cost_microusd - self.bound_microusd) / self.cost_microusd

    @property
    def finish_ms(self) -> int:
        """Last end of all."""
        return max((cu.end_ms for cu in self.cus), default=0)
