"""One replay: planned CUs run their tasks on virtual time (SimPy), as things really turn out.

What is planned is a forecast; what happens is the record. A task starts when its parents have
ended and its CU has room, not before its planned start, in the plan's order. A spot CU dies when
the trace falls to nothing; what ran on it starts again. A task that reaches more memory than it was
given ends half way, and starts again with what the forecaster gives then.

With reactions on, and forecasts that may be wrong, what is left is planned anew by the market's own
search whenever something ends (``cu_market.dnm.renegotiation.replan``). With exact forecasts, or on
spot, tasks keep their planned places: one that waits beyond its planned start, one that runs beyond
its forecast's band and a lost CU each start a review of what has not started
(``cu_market.dnm.renegotiation.review``): it is moved, what runs is left alone.

A CU is billed from its first start to its last end. One that stands idle for longer than a new
one's start-up costs is let go, unless the plan has more for it, and bought again when a task needs
it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

import simpy

from cu_market.dnm.renegotiation import (
    HeldCU,
    Place,
    Replanner,
    Review,
    Spread,
    left_ms,
)
from cu_market.dnm.schedule import MachineType, Task
from cu_market.domain.problem import CUMarketError
from cu_market.domain.units import GIB
from cu_market.pse import next_after_oom
from cu_market.sim.live_cu import LiveCU
from cu_market.sim.setting import Outcome, Setting, Stay

PATIENCE_RATIO = 0.005
"""A task that has waited for less than this share of the deadline beyond its planned start is not
late, and two reviews are at least so far apart."""

BEAT_RATIO = 0.01
"""Of the deadline: where nothing ends for so long, what is left is planned anew all the same, since
what runs on is expected to run for longer."""

OUTGROWN_AFTER = 0.5
"""Of its time: when a task that reaches more memory than it was given ends, since nothing recorded
says when in between."""


class Replay:
    """Runs one setting to its end.

    Args:
        setting: what is run.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._env = simpy.Environment()
        self._tasks = {task.task_id: task for task in setting.held().tasks}
        self._machines = {m.name: m for m in setting.workload.machines}
        self._home: dict[str, str] = {}
        self._planned_start: dict[str, int] = {}
        self._types: dict[str, MachineType] = {}
        for cu in setting.plan.cus:
            self._types[cu.cu_id] = self._machines[cu.machine]
            for stay in cu.stays:
                self._home[stay.task_id] = cu.cu_id
                self._planned_start[stay.task_id] = stay.start_ms
        self._patience_ms = max(1.0, PATIENCE_RATIO * setting.workload.deadline_ms)
        self._reviewed_at = -self._patience_ms
        self._moved: dict[str, int] = defaultdict(int)
        self._replanner: Replanner | None = None
        self._first_home = dict(self._home)
        self._turns = 0
        self._reviewer: Review | None = None
        self._decide_anew(setting)
        self._is_turn_due = False
        self._woken: set[tuple[str, int]] = set()
        self._started: set[str] = set()
        self._ended = {task_id: self._env.event() for task_id in self._tasks}
        self._ready: list[str] = []
        self._live: dict[str, list[LiveCU]] = defaultdict(list)
        self._stays: list[Stay] = []
        self._cost = self._failed = self._moves = self._count = 0

    def run(self) -> Outcome:
        """Returns the outcome once every task has ended."""
        for task in self._setting.workload.tasks:
            self._env.process(self._arrive(task))
        if self._setting.plan.finish_ms > self._setting.workload.deadline_ms:
            self._review()  # a plan that is late from the outset
        self._env.run(until=self._env.all_of(list(self._ended.values())))
        for cus in self._live.values():
            for cu in cus:
                self._bill(cu)
        return Outcome(
            cost_microusd=self._cost,
            finish_ms=max((s.end_ms for s in self._stays if not s.has_failed), default=0.0),
            failed_attempts=self._failed,
            moves=self._moves,
            stays=tuple(sorted(self._stays, key=lambda s: (s.start_ms, s.task_id))),
            egress_bytes=self._setting.traffic.egress_bytes(self._stays),
        )

    def _decide_anew(self, setting: Setting) -> None:
        """Has who decides where tasks go know these forecasts."""
        is_uncertain = setting.spreads or setting.reserved
        if setting.reacts and is_uncertain and setting.trace is None:
            self._replanner = Replanner(
                setting.forecast(),
                spreads=setting.spreads,
                bill_microusd=setting.plan.cost_microusd,
            )
        elif setting.reacts:
            self._reviewer = Review(setting.forecast(), spreads=setting.spreads)

    # -- tasks

    def _arrive(self, task: Task) -> Generator[simpy.Event, Any, None]:
        yield self._env.all_of([self._ended[parent] for parent in task.parents])
        self._ready.append(task.task_id)
        self._dispatch()
        if self._reviewer is not None:
            yield from self._watch(task.task_id)

    def _watch(self, task_id: str) -> Generator[simpy.Event, Any, None]:
        """Has what has not started reviewed for as long as a ready task waits beyond its start."""
        while task_id in self._ready:
            due = self._planned_start[task_id] + self._patience_ms
            due = max(due, self._reviewed_at + self._patience_ms)
            if due > self._env.now:
                yield self._env.timeout(due - self._env.now)
            if task_id in self._ready:
                self._review()
                yield self._env.timeout(0)

    def _outlast(self, task: Task, cu: LiveCU) -> Generator[simpy.Event, Any, None]:
        """Has what has not started reviewed when a task runs beyond its forecast's band."""
        began, machine = cu.began[task.task_id], cu.machine
        expected = machine.duration_ms(
            replace(task, duration_ms=self._setting.expected_ms[task.task_id])
        )
        yield self._env.timeout(max(1.0, expected * self._spread(task.task_id).p95_ratio()))
        if cu.began.get(task.task_id) == began:
            self._review()

    def _dispatch(self) -> None:
        """Has what is ready looked at once everything that happens at this moment has."""
        if not self._is_turn_due:
            self._is_turn_due = True
            self._env.process(self._turn())

    def _turn(self) -> Generator[simpy.Event, Any, None]:
        for _ in range(3):  # a task's end, its children's parents all ended, they are ready
            yield self._env.timeout(0)
        self._is_turn_due = False
        if self._replanner is not None:
            self._replan(self._replanner)
            self._env.process(self._beat())
        self._start_as_planned()

    def _beat(self) -> Generator[simpy.Event, Any, None]:
        """Has one more turn where none comes for long."""
        self._turns = turn = self._turns + 1
        yield self._env.timeout(max(1, round(BEAT_RATIO * self._setting.workload.deadline_ms)))
        if turn == self._turns and len(self._started) < len(self._tasks):
            self._dispatch()

    def _wake(self, task_id: str, at_ms: int) -> Generator[simpy.Event, Any, None]:
        yield self._env.timeout(max(1, at_ms - self._env.now))
        if task_id in self._ready and self._planned_start.get(task_id, 0) < self._env.now + 1:
            self._dispatch()

    def _start_as_planned(self) -> None:
        """Starts whatever can start now and is due by the plan, in the plan's order.

        Nothing starts sooner: it would take the room of what is planned there, or have a CU bought
        before its time (a schedule by list is no better for a start that comes sooner: Graham,
        "Bounds on multiprocessing timing anomalies", 1969).
        """
        self._ready.sort(key=lambda t: (self._planned_start.get(t, 0), t))
        for task_id in list(self._ready):
            planned = self._planned_start.get(task_id, 0)
            if planned >= self._env.now + 1:  # nothing is planned by fractions of a millisecond
                if (task_id, planned) not in self._woken:
                    self._woken.add((task_id, planned))
                    self._env.process(self._wake(task_id, planned))
                continue
            cu = self._place(task_id)
            if cu is not None:
                self._moves += self._replanner is not None and cu.home != self._first_home[task_id]
                self._ready.remove(task_id)
                self._start(self._tasks[task_id], cu)

    def _place(self, task_id: str) -> LiveCU | None:
        task, home = self._tasks[task_id], self._home[task_id]
        for cu in self._live[home]:
            if cu.has_room(task):
                return cu
        if not self._live[home]:
            return self._buy(home)
        return None

    # -- renegotiation

    def _spread(self, task_id: str) -> Spread:
        return self._setting.spreads.get(task_id, Spread())

    def _review(self) -> None:
        """Moves what has not started where that is worth it."""
        reviewer, now = self._reviewer, round(self._env.now)
        if reviewer is None or self._env.now < self._reviewed_at + self._patience_ms:
            return
        self._reviewed_at = self._env.now
        ends: dict[str, int] = {s.task_id: round(s.end_ms) for s in self._stays if not s.has_failed}
        held = [self._held(cu, now, ends) for cus in self._live.values() for cu in cus]
        places = {name: place for name, place in self._places().items() if name not in ends}
        if not places:
            return
        found = reviewer.revise(now, held, ends, places, self._moved)
        for task_id in found.moved:
            self._moved[task_id] += 1
        self._moves += len(found.moved)
        self._adopt(found.places)
        self._dispatch()

    def _replan(self, replanner: Replanner) -> None:
        """Places anew what has not started."""
        now = round(self._env.now)
        held = [self._held(cu, now, {}) for cus in self._live.values() for cu in cus]
        places = {
            name: place for name, place in self._places().items() if name not in self._started
        }
        self._adopt(replanner.revise(now, held, places, self._ready))

    def _places(self) -> dict[str, Place]:
        return {
            task_id: Place(
                cu_id=home, machine=self._types[home].name, start_ms=self._planned_start[task_id]
            )
            for task_id, home in self._home.items()
        }

    def _adopt(self, places: Mapping[str, Place]) -> None:
        for task_id, place in places.items():
            self._home[task_id] = place.cu_id
            self._planned_start[task_id] = place.start_ms
            self._types.setdefault(place.cu_id, self._machines[place.machine])
            if not self._live[place.cu_id]:
                self._types[place.cu_id] = self._machines[place.machine]

    def _held(self, cu: LiveCU, now: int, ends: dict[str, int]) -> HeldCU:
        """Returns a CU as a review sees it; adds when its tasks are expected to end."""
        stays = list(cu.ran)
        for task_id, began in cu.began.items():
            expected = self._setting.expected_ms[task_id]
            left = left_ms(expected, self._env.now - began, self._spread(task_id))
            ends[task_id] = now + max(1, round(left))
            stays.append((task_id, round(began), ends[task_id]))
        return HeldCU(cu_id=cu.home, machine=cu.machine.name, stays=tuple(stays))

    def _start(self, task: Task, cu: LiveCU) -> None:
        cu.start(task, self._env.now, self._env.process(self._work(task, cu)))
        self._started.add(task.task_id)
        if self._reviewer is not None:
            self._env.process(self._outlast(task, cu))

    def _work(self, task: Task, cu: LiveCU) -> Generator[simpy.Event, Any, None]:
        began, takes = self._env.now, cu.machine.duration_ms(task)
        is_outgrown = self._setting.peaks.get(task.task_id, 0) > task.memory_bytes
        try:
            yield self._env.timeout(max(1, round(OUTGROWN_AFTER * takes)) if is_outgrown else takes)
        except simpy.Interrupt:
            self._fail(task, cu, began)
            return
        cu.end(task, self._env.now)
        if is_outgrown:
            self._fail(task, cu, began)
            self._grow(task)
        else:
            self._note(task, cu, began)
            self._ended[task.task_id].succeed()
        if not cu.running:
            self._env.process(self._linger(cu, self._env.now))
        self._dispatch()

    def _fail(self, task: Task, cu: LiveCU, began: float) -> None:
        self._note(task, cu, began, has_failed=True)
        self._failed += 1
        self._started.remove(task.task_id)
        self._ready.append(task.task_id)

    def _grow(self, task: Task) -> None:
        """Reserves what the forecaster gives after an attempt that ran out of memory.

        By a plan it runs on a CU of its own then: where it stood, there was room for less.
        """
        holding = [m for m in self._machines.values() if m.cpu_millis >= task.cpu_millis]
        largest = max(m.memory_bytes for m in holding)
        reached, foreseen = task.memory_bytes, self._setting.foreseen.get(task.task_id)
        grown = next_after_oom(reached, reached, foreseen, largest_bytes=largest)
        if min(largest, grown) <= task.memory_bytes:
            raise CUMarketError(
                f"task {task.task_id!r} needs more memory than the largest type has: "
                f"{largest / GIB:.1f} GiB; give a catalogue with larger types"
            )
        self._tasks[task.task_id] = larger = replace(task, memory_bytes=min(largest, grown))
        reserved = {name: each.memory_bytes for name, each in self._tasks.items()}
        self._decide_anew(replace(self._setting, reserved=reserved))
        if self._replanner is None:
            holding = [m for m in holding if m.memory_bytes >= larger.memory_bytes]
            machine = min(holding, key=lambda m: (m.cost_microusd(task.duration_ms), m.name))
            home = f"{machine.name} for {task.task_id}"
            self._home[task.task_id], self._types[home] = home, machine

    def _note(self, task: Task, cu: LiveCU, began: float, *, has_failed: bool = False) -> None:
        self._stays.append(
            Stay(
                task_id=task.task_id,
                cu_id=cu.cu_id,
                machine=cu.machine.name,
                is_spot=cu.is_spot,
                start_ms=began,
                end_ms=self._env.now,
                has_failed=has_failed,
                memory_bytes=task.memory_bytes,
            )
        )

    # -- CUs

    def _buy(self, home: str) -> LiveCU:
        self._count += 1
        kind = self._types[home]
        trace, now = self._setting.trace, self._env.now
        wants_spot = home in self._setting.spot_cus
        is_spot = wants_spot and (trace is None or trace.is_available(now, self._setting.offset))
        cu = LiveCU.of(f"{kind.name}#{self._count}", kind, home, is_spot=is_spot)
        self._live[home].append(cu)
        if is_spot and trace is not None:
            fall = trace.next_fall_ms(now, self._setting.offset)
            if fall is not None:
                self._env.process(self._preempt(cu, fall - now))
        return cu

    def _preempt(self, cu: LiveCU, after_ms: float) -> Generator[simpy.Event, Any, None]:
        yield self._env.timeout(after_ms)
        if cu not in self._live[cu.home]:
            return
        if cu.running:  # what stands idle is billed to its last end
            cu.last_ms = self._env.now
        self._let_go(cu)
        for process in cu.running.values():
            process.interrupt()
        cu.running.clear()
        cu.began.clear()
        yield self._env.timeout(0)  # the interrupted say so first
        self._reviewed_at = -self._patience_ms  # a lost CU waits for nothing
        self._review()
        self._dispatch()

    def _linger(self, cu: LiveCU, since: float) -> Generator[simpy.Event, Any, None]:
        """Lets a CU go that has stood idle for as long as a new one's start-up is billed.

        By a plan, one that has more to run stays: a plan gives up what is idle for too long itself.
        """
        yield self._env.timeout(max(1, cu.machine.startup_ms))
        if self._replanner is None and any(
            home == cu.home and task_id not in self._started for task_id, home in self._home.items()
        ):
            return
        if cu in self._live[cu.home] and not cu.running and cu.last_ms == since:
            self._let_go(cu)

    def _let_go(self, cu: LiveCU) -> None:
        self._live[cu.home].remove(cu)
        self._bill(cu)

    def _bill(self, cu: LiveCU) -> None:
        spot = self._setting.spot.of(cu.machine)
        self._cost += cu.bill(spot if cu.is_spot else cu.machine.price_microusd_per_hour)
