"""Where ready steps go while forecasts may be wrong: whichever CU has room, not the planned one.

A plan on forecasts that err by a third says well how many CUs of which type a run wants, and badly
which step meets which core when. So CUs that are had are one pool. Ready steps, those that must
start soonest first:

    room now, within a CU's time      start there
    room now, CU had longer for it    start there from the planned start on, or once due, unless a
                                      new CU costs less
    room later, by due + tolerance    wait for it; for what is late already, within LATE_RATIO
    else                              a new CU, of the type whose share costs least

A step is due at its L_i - d_i (``margins``), DUE_Z standard deviations before its path would be
late: a start that came too soon costs nothing as long as it is in a pool.

What a step pays of a CU of C cores that is had for x for it, while it runs for d on c_i of them and
R core-milliseconds of other work could fill the rest:

    price (c_i d + idle) / C,     idle = max(0, C x - c_i d - R)

R is all that has not started where a CU is had for longer; where one is bought, what is expected to
run within x: work that comes later would find it idle. Of a new one's start-up a step pays the
share that it has of what waits now, or c_i / C where nothing would be idle.

Replays of recorded workflows at a forecast error of 0.3 and their shortest finish: see
docs/decisions/0007-accounts-and-renegotiation.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cu_market.dnm.renegotiation.margins import margins_ms
from cu_market.dnm.renegotiation.remaining import Spread
from cu_market.dnm.schedule.seeds import tails
from cu_market.dnm.schedule.workload import MachineType, Task, Workload
from cu_market.domain.units import MILLIS, MS_PER_HOUR

DUE_Z = 3.2
TOLERANCE_RATIO = 0.06
"""Of the deadline: so much later than due a step may start before a CU is bought for it."""

LATE_RATIO = 0.02
"""The same of what is that late already: waits on one path add up. With one ratio of 0.025 for both
and DUE_Z 4, replays on two sets of forecasts cost 0.4 % more and ended as late."""

SMALL_CPU_MILLIS = 2000
"""Two cores: the least that two steps of one core can share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BusyCU:
    """A CU that is had now.

    Attributes:
        cu_id: unique among those.
        machine: its type.
        running: (task_id, expected end) of what it runs.
        last_ms: last end on it; where nothing has run, its first moment.
    """

    cu_id: str
    machine: MachineType
    running: tuple[tuple[str, int], ...]
    last_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of one ready step.

    Attributes:
        task_id: the step.
        cu_id: start on this CU now; None where it waits.
        machine: that CU is bought first, of this type; later decisions may name it, too.
        wake_ms: it waits; decide again at this moment at the latest.
    """

    task_id: str
    cu_id: str | None = None
    machine: MachineType | None = None
    wake_ms: int | None = None


_Span = tuple[int, int, int, int, int]
"""From, until, cores, memory, GPUs."""


@dataclass(slots=True)
class _Held:
    """What a CU holds over time from now on: what runs, and what waits for its room."""

    cu: BusyCU
    running: list[_Span] = field(default_factory=list)
    waiting: list[_Span] = field(default_factory=list)

    def until(self) -> int:
        """Returns when nothing of it runs any more."""
        return max([self.cu.last_ms, *(span[1] for span in self.running)])

    def first_fit(self, task: Task, now_ms: int, takes: int) -> int | None:
        """Returns the first moment from which the task has room to its end; None: never.

        Now, what only waits is passed by: it could not start yet.
        """
        if not _holds(self.cu.machine, task):
            return None
        if self._has_room(self.running, task, now_ms, now_ms + takes):
            return now_ms
        every = [*self.running, *self.waiting]
        moments = sorted({span[1] for span in every if span[1] > now_ms})
        return next((at for at in moments if self._has_room(every, task, at, at + takes)), None)

    def _has_room(self, spans: Sequence[_Span], task: Task, begin: int, end: int) -> bool:
        machine = self.cu.machine
        for point in [begin, *(span[0] for span in spans if begin < span[0] < end)]:
            there = [span for span in spans if span[0] <= point < span[1]]
            if (
                sum(s[2] for s in there) + task.cpu_millis > machine.cpu_millis
                or sum(s[3] for s in there) + task.memory_bytes > machine.memory_bytes
                or sum(s[4] for s in there) + task.gpu_count > machine.gpu_count
            ):
                return False
        return True


def _span(task: Task, begin: int, takes: int) -> _Span:
    return begin, begin + takes, task.cpu_millis, task.memory_bytes, task.gpu_count


class Dispatcher:
    """Decides for one run, again and again; keeps nothing between.

    Args:
        workload: its steps with forecast medians, machine types, deadline.
        spreads: of durations about them, by step; exact where not given.
    """

    def __init__(self, workload: Workload, *, spreads: Mapping[str, Spread]) -> None:
        self._workload = workload
        takes = [task.duration_ms for task in workload.tasks]
        margin = margins_ms(workload, takes, spreads, z=DUE_Z)
        tail = tails(workload, takes)
        self.due_ms = {
            task.task_id: workload.deadline_ms - tail[i] - margin[i]
            for i, task in enumerate(workload.tasks)
        }
        """By step: when it should start at the latest."""
        self._mean_ms = {
            task.task_id: max(
                1, round(task.duration_ms * spreads.get(task.task_id, Spread()).mean_ratio())
            )
            for task in workload.tasks
        }
        # What is due before a new CU's least time is over can share that.
        self._soon_ms = max(0, *(m.minimum_ms - m.startup_ms for m in workload.machines))
        self._tolerance_ms = round(TOLERANCE_RATIO * workload.deadline_ms)
        self._late_ms = round(LATE_RATIO * workload.deadline_ms)

    def decide(
        self,
        now_ms: int,
        held: Sequence[BusyCU],
        ready: Collection[str],
        planned_ms: Mapping[str, int],
        unstarted: Collection[str],
    ) -> list[Decision]:
        """Returns what becomes of each ready step, in the order in which they are to be started.

        Args:
            now_ms: after the run's start, as every other time.
            held: the CUs that are had.
            ready: steps whose parents have ended.
            planned_ms: starts by the plan, of the ready steps at least.
            unstarted: every step that has not started, the ready ones too.
        """
        tasks, index = self._workload.tasks, self._workload.index
        pool = [self._occupied(cu, now_ms) for cu in sorted(held, key=lambda cu: cu.cu_id)]
        waiting = [tasks[index[name]] for name in ready]
        waiting.sort(key=lambda task: (self.due_ms[task.task_id], task.task_id))
        left = self._expected(now_ms, held, planned_ms, set(unstarted))
        decisions: list[Decision] = []
        soon = now_ms + self._soon_ms
        for k, task in enumerate(waiting):
            own = left.pop(task.task_id)
            wanted = task.cpu_millis + sum(
                other.cpu_millis
                for other in waiting[k + 1 :]
                if min(self.due_ms[other.task_id], planned_ms[other.task_id]) <= soon
            )
            planned = planned_ms[task.task_id]
            decision = self._decide(task, now_ms, pool, planned, list(left.values()), wanted)
            if decision.machine is not None:
                name = f"new {k}"
                bought = BusyCU(cu_id=name, machine=decision.machine, running=(), last_ms=now_ms)
                pool.append(_Held(cu=bought))
                self._start(task, pool[-1], now_ms, self._takes_ms(decision.machine, task))
                decision = replace(decision, cu_id=name)
            if decision.cu_id is None:
                left[task.task_id] = own
            decisions.append(decision)
        return decisions

    def _expected(
        self,
        now_ms: int,
        held: Sequence[BusyCU],
        planned_ms: Mapping[str, int],
        unstarted: Collection[str],
    ) -> dict[str, _Span]:
        """Returns when each step that has not started is expected to run: not before its plan."""
        tasks, parents = self._workload.tasks, self._workload.parents
        ends = {name: end for cu in held for name, end in cu.running}
        found: dict[str, _Span] = {}
        for i in self._workload.order:
            task = tasks[i]
            if task.task_id not in unstarted:
                continue
            before = [ends.get(tasks[p].task_id, now_ms) for p in parents[i]]
            due = self.due_ms[task.task_id]
            begin = max([now_ms, min(due, planned_ms.get(task.task_id, due)), *before])
            found[task.task_id] = _span(task, begin, self._mean_ms[task.task_id])
            ends[task.task_id] = found[task.task_id][1]
        return found

    def _decide(
        self,
        task: Task,
        now_ms: int,
        pool: Sequence[_Held],
        planned_ms: int,
        left: Sequence[_Span],
        wanted: int,
    ) -> Decision:
        due = self.due_ms[task.task_id]
        by_plan = min(due, planned_ms)
        options = []
        for cu in pool:
            takes = self._takes_ms(cu.cu.machine, task)
            at = cu.first_fit(task, now_ms, takes)
            if at is not None:
                longer = max(0, at + takes - cu.until())
                price = cu.cu.machine.price_microusd_per_hour
                options.append((at, longer * price, cu.cu.cu_id, cu, takes, longer))
        now = [option for option in options if option[0] == now_ms]
        if now:
            _, growth, _, cu, takes, longer = min(now, key=lambda option: option[1:3])
            if not growth:
                return self._start(task, cu, now_ms, takes)
            if now_ms < by_plan:
                return Decision(task_id=task.task_id, wake_ms=by_plan)
            machine, alone = self._cheapest(task, now_ms, left, wanted)
            rest = sum(span[2] * (span[1] - span[0]) for span in left)
            if _share(cu.cu.machine, task, longer, longer, rest) <= alone:
                return self._start(task, cu, now_ms, takes)
            return Decision(task_id=task.task_id, machine=machine)
        if now_ms < by_plan:
            return Decision(task_id=task.task_id, wake_ms=by_plan)
        latest = max(due + self._tolerance_ms, now_ms + self._late_ms)
        if options:
            at, _, _, cu, takes, _ = min(options, key=lambda option: option[:3])
            if at <= latest:
                cu.waiting.append(_span(task, at, takes))
                return Decision(task_id=task.task_id, wake_ms=latest + 1)
        return Decision(task_id=task.task_id, machine=self._cheapest(task, now_ms, left, wanted)[0])

    def _start(self, task: Task, cu: _Held, now_ms: int, takes: int) -> Decision:
        cu.running.append(_span(task, now_ms, takes))
        return Decision(task_id=task.task_id, cu_id=cu.cu.cu_id)

    def _takes_ms(self, machine: MachineType, task: Task) -> int:
        mean = self._mean_ms[task.task_id]
        return -(-mean * MILLIS // machine.performance_millis)

    def _cheapest(
        self, task: Task, now_ms: int, left: Sequence[_Span], wanted: int
    ) -> tuple[MachineType, float]:
        """Returns the type to buy for a task and what its share of one costs.

        No type larger than SMALL_CPU_MILLIS or the task, while there is one: a larger CU stands
        idle in more of its cores when what it took together ends at different times.
        """
        best: tuple[float, str, MachineType] | None = None
        within: dict[int, int] = {}
        for machine in self._workload.machines:
            if not _holds(machine, task):
                continue
            is_larger = machine.cpu_millis > max(SMALL_CPU_MILLIS, task.cpu_millis)
            takes = self._takes_ms(machine, task)
            longest = max(takes, machine.minimum_ms - machine.startup_ms)
            if longest not in within:  # most types are equally fast
                within[longest] = _work_within(left, now_ms, now_ms + longest)
            rest = within[longest]
            filled = max(task.cpu_millis, min(machine.cpu_millis, wanted))
            if task.cpu_millis * takes + rest >= machine.cpu_millis * longest:
                filled = machine.cpu_millis
            startup = machine.startup_ms * machine.price_microusd_per_hour / MS_PER_HOUR
            cost = _share(machine, task, longest, takes, rest) + startup * task.cpu_millis / filled
            option = (cost + (1e18 if is_larger else 0.0), machine.name, machine)
            if best is None or option[:2] < best[:2]:
                best = option
        assert best is not None  # what no type holds is not planned
        return best[2], best[0]

    def _occupied(self, cu: BusyCU, now_ms: int) -> _Held:
        tasks, index = self._workload.tasks, self._workload.index
        held = _Held(cu=cu)
        for name, end in cu.running:
            held.running.append(_span(tasks[index[name]], now_ms, max(1, end - now_ms)))
        return held


def _share(machine: MachineType, task: Task, longer: int, takes: int, rest: int) -> float:
    """Returns micro-dollars of the task's share of a CU that is had for longer for it."""
    used = task.cpu_millis * takes
    idle = max(0, machine.cpu_millis * longer - used - rest)
    return machine.price_microusd_per_hour / MS_PER_HOUR * (used + idle) / machine.cpu_millis


def _work_within(spans: Sequence[_Span], begin: int, end: int) -> int:
    """Returns the core-milliseconds of the spans that fall into [begin, end)."""
    return sum(s[2] * max(0, min(end, s[1]) - max(begin, s[0])) for s in spans)


def _holds(machine: MachineType, task: Task) -> bool:
    return (
        task.cpu_millis <= machine.cpu_millis
        and task.memory_bytes <= machine.memory_bytes
        and task.gpu_count <= machine.gpu_count
        and (task.machines is None or machine.name in task.machines)
    )
