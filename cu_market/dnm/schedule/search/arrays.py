"""A packing as arrays, for the compiled rounds: one record a task, a machine type, a CU.

Attributes of the records, in the units of ``workload`` (milliseconds, milli-cores, bytes; costs are
micro-dollars times MS_PER_HOUR):

    TASK     what it holds;  E_i, L_i, shortest time;  its place in topological order;  near[parents
             : children] are its parents, near[children : relatives] its children;  it stays where
             it stands
    KIND     a machine type: price, size, terms;  quantity, -1 for any number;  its speed's number
    STAY     CU of a task, -1 where it stands nowhere;  start, end;  the next one on that CU, or -1
    CU       its first stay, -1 where there is no such CU;  type, cost, first start, last end, peak;
             version: another one whenever its stays change
    MOMENT   what a CU holds from a time on
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from cu_market.dnm.compiled import Array
from cu_market.dnm.schedule.bundle import Bundle, Catalogue, Stay, make
from cu_market.dnm.schedule.packing import Packing, empty

LARGEST_COST = 2**62
"""Sums of costs stay below: they are whole numbers of 64 bits here."""

MOMENTS = 256
"""A CU's load over time is kept between looks where it changes at most so often."""


def _whole(*names: str) -> np.dtype[Any]:
    return np.dtype([(name, np.int64) for name in names])


TASK = _whole(
    *("cpu", "memory", "gpus", "earliest", "latest", "shortest", "place"),
    *("parents", "children", "relatives", "is_fixed"),
)
KIND = _whole(
    *("price", "cpu", "memory", "gpus", "startup", "minimum", "step", "quantity", "speed")
)
STAY = _whole("cu", "start", "end", "following")
CU = _whole("head", "kind", "cost", "first", "last", "cpu", "memory", "gpus", "version")
MOMENT = _whole("time", "cpu", "memory", "gpus")
KEPT = _whole("version", "count")
WINDOW = np.dtype(
    [("early", np.int64), ("late", np.int64), ("rank", np.float64), ("is_late", np.bool_)]
)


class Problem(NamedTuple):
    """What no round changes.

    Attributes:
        tasks: TASK each.
        near: parents and children of all tasks.
        kinds: KIND each, the cheapest an hour first.
        takes: [speed, task], -1 where no type of that speed may host it.
        allowed: [task, kind].
        ready: [speed], no task starts earlier there.
        is_uniform: all types have the same terms, and none is counted.
        is_restricted: some task names types.
    """

    tasks: Array
    near: Array
    kinds: Array
    takes: Array
    allowed: Array
    ready: Array
    is_uniform: bool
    is_restricted: bool


class State(NamedTuple):
    """A packing.

    Attributes:
        stays: STAY of each task.
        cus: CU each, as many as there are tasks.
        most: [1], no CU has a higher number than this less one.
    """

    stays: Array
    cus: Array
    most: Array


class Work(NamedTuple):
    """Room to work in; holds nothing between rounds but loads that are still true.

    Attributes:
        moments: the loads of CUs over time, MOMENTS each; behind them room for one of any length.
        kept: by CU, which version's load is there.
        ends: tasks by their ends.
        version: [1], the last that was given out.
        windows: WINDOW of tasks that stand nowhere.
        removed, queue: tasks; touched, keys: CUs; distance: of these CUs.
    """

    moments: Array
    kept: Array
    ends: Array
    version: Array
    windows: Array
    removed: Array
    queue: Array
    touched: Array
    keys: Array
    distance: Array


class Log(NamedTuple):
    """Good schedules that were met: a ring.

    Attributes:
        cus, starts, kinds: [entry, task].
        written: [1], how many ever were.
    """

    cus: Array
    starts: Array
    kinds: Array
    written: Array


def problem_of(packing: Packing, fixed: Collection[int] = ()) -> Problem:
    """Returns the arrays of a packing's workload, some of whose tasks stay where they stand."""
    catalogue, windows = packing.catalogue, packing.windows
    workload, machines = catalogue.workload, catalogue.machines
    tasks = np.zeros(len(workload.tasks), TASK)
    near: list[int] = []
    for place, i in enumerate(workload.order):
        tasks[i]["place"] = place
    for i, (cpu, memory, gpus) in enumerate(catalogue.loads):
        parents, children = len(near), len(near) + len(workload.parents[i])
        near += [*workload.parents[i], *workload.children[i]]
        times = (windows.earliest[i], windows.latest[i], packing.shortest[i])
        found = (cpu, memory, gpus, *times, tasks[i]["place"], parents, children, len(near))
        tasks[i] = (*found, i in fixed)
    speeds, unit = catalogue.speeds, _price_unit(packing)
    kinds = np.zeros(len(machines), KIND)
    for k, m in enumerate(machines):
        speed = next(v for v, mask in enumerate(speeds) if mask >> k & 1)
        price = -(-m.price_microusd_per_hour // unit)
        size = (price, m.cpu_millis, m.memory_bytes, m.gpu_count)
        quantity = -1 if m.quantity is None else m.quantity
        kinds[k] = (*size, *catalogue.terms[k], quantity, speed)
    masks = catalogue.masks
    return Problem(
        tasks=tasks,
        near=np.array(near, np.int64),
        kinds=kinds,
        takes=np.array(
            [
                [catalogue.duration(i, v & own) if v & own else -1 for i, own in enumerate(masks)]
                for v in speeds
            ],
            np.int64,
        ),
        allowed=np.array([[own >> k & 1 for k in range(len(machines))] for own in masks], np.bool_),
        ready=np.array([machines[(v & -v).bit_length() - 1].ready_ms for v in speeds], np.int64),
        is_uniform=catalogue.is_uniform and all(m.quantity is None for m in machines),
        is_restricted=any(task.machines is not None for task in workload.tasks),
    )


def _price_unit(packing: Packing) -> int:
    """Returns what prices are divided by, 1 unless a bill could be too large a number: of what is
    there, and of a CU of its own, of the dearest type and for all the time there is, for each task
    that a round may take off."""
    machines, workload = packing.catalogue.machines, packing.catalogue.workload
    longest = workload.deadline_ms + max(m.startup_ms + m.minimum_ms for m in machines)
    longest += max(m.billing_step_ms for m in machines)
    dearest = max(m.price_microusd_per_hour for m in machines)
    moved = min(len(workload.tasks), 100) * dearest * longest
    return 1 + (2 * packing.cost + moved) // LARGEST_COST


def no_state(count: int) -> State:
    """Returns a packing in which none of so many tasks stands anywhere."""
    stays, cus = np.zeros(count, STAY), np.zeros(count, CU)
    stays["cu"], stays["following"], cus["head"] = -1, -1, -1
    return State(stays=stays, cus=cus, most=np.zeros(1, np.int64))


def state_of(packing: Packing) -> State:
    """Returns a packing as arrays; its CUs are still to be settled."""
    state = no_state(len(packing.where))
    state.most[0] = len(packing.bundles)
    for number, bundle in enumerate(packing.bundles.values()):
        tasks = [stay.task for stay in bundle.stays]
        for stay, following in zip(bundle.stays, [*tasks[1:], -1], strict=True):
            state.stays[stay.task] = (number, stay.start_ms, stay.end_ms, following)
        held = (bundle.first_ms, bundle.last_ms, *bundle.peak)
        state.cus[number] = (tasks[0], bundle.machine, 0, *held, 0)
    return state


def work_for(count: int) -> Work:
    """Returns room for so many tasks."""

    def whole(size: int = count) -> Array:
        return np.zeros(size, np.int64)

    kept = np.zeros(count, KEPT)
    kept["version"] = -1
    return Work(
        moments=np.zeros(count * MOMENTS + 2 * count, MOMENT),
        kept=kept,
        ends=whole(),
        version=whole(1),
        windows=np.zeros(count, WINDOW),
        removed=whole(),
        queue=whole(),
        touched=whole(),
        keys=whole(),
        distance=np.zeros(count),
    )


def log_for(count: int, entries: int) -> Log:
    """Returns an empty log of schedules of so many tasks."""
    size = (entries, count)
    return Log(
        cus=np.zeros(size, np.int64),
        starts=np.zeros(size, np.int64),
        kinds=np.zeros(size, np.int64),
        written=np.zeros(1, np.int64),
    )


def packing_of(packing: Packing, state: State) -> Packing:
    """Returns the arrays as a packing of the same workload; every task stands somewhere."""
    starts, ends = state.stays["start"].tolist(), state.stays["end"].tolist()
    kinds, found = state.cus["kind"].tolist(), empty(packing.catalogue)
    for cu, tasks in members_of(state.stays["cu"].tolist()).items():
        stays = [Stay(starts[i], ends[i], i) for i in tasks]
        found.set(-1, bundle_of(packing.catalogue, stays, kinds[cu]))
    return found


def members_of(numbers: Sequence[int]) -> dict[int, list[int]]:
    """Returns the tasks of each CU, of the CU's number by task."""
    members: dict[int, list[int]] = {}
    for i, cu in enumerate(numbers):
        members.setdefault(cu, []).append(i)
    return members


def bundle_of(catalogue: Catalogue, stays: Sequence[Stay], kind: int) -> Bundle:
    """Returns stays as one CU, which a type of the named one's speed holds."""
    mask = next(v for v in catalogue.speeds if v >> kind & 1)
    bundle = make(catalogue, stays, mask, kind)
    assert bundle is not None  # its type holds it
    return bundle
