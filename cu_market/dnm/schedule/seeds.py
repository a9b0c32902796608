"""List schedules on given machines: one machine of a type, or a pool of equal ones.

At a loose deadline one well-filled machine can be what is cheapest, and insertion, which looks at
one task at a time, does not find it: measured up to 10 % dearer without these seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

from cu_market.dnm.schedule.bundle import Stay
from cu_market.dnm.schedule.workload import MachineType, Workload


def tails(workload: Workload, durations: Sequence[int]) -> list[int]:
    """Returns each task's longest path from its start to the end of the workload."""
    tail = list(durations)
    for i in reversed(workload.order):
        for c in workload.children[i]:
            tail[i] = max(tail[i], durations[i] + tail[c])
    return tail


def list_schedule(workload: Workload, machine: MachineType, count: int) -> list[list[Stay]] | None:
    """Returns the stays of each of count equal machines: longest tail first, as soon as it fits.

    At every moment where something ends or becomes ready, the ready tasks are tried in the order of
    their tails, each on the first machine with room.

    Returns:
        None where some task does not fit an empty machine.
    """
    tasks = workload.tasks
    if any(
        t.cpu_millis > machine.cpu_millis
        or t.memory_bytes > machine.memory_bytes
        or t.gpu_count > machine.gpu_count
        or (t.machines is not None and machine.name not in t.machines)
        for t in tasks
    ):
        return None
    durations = [machine.duration_ms(task) for task in tasks]
    tail = tails(workload, durations)
    missing = [len(parents) for parents in workload.parents]
    free = [[machine.cpu_millis, machine.memory_bytes, machine.gpu_count] for _ in range(count)]
    stays: list[list[Stay]] = [[] for _ in range(count)]
    ready: list[tuple[int, int]] = []
    events: list[tuple[int, int, int, int]] = []  # moment, 0 end / 1 arrival, task, machine
    for i, waits in enumerate(missing):
        if not waits:
            heappush(events, (max(machine.ready_ms, tasks[i].earliest_start_ms), 1, i, -1))
    while events:
        now = events[0][0]
        while events and events[0][0] == now:
            _, is_arrival, i, host = heappop(events)
            if is_arrival:
                heappush(ready, (-tail[i], i))
                continue
            _hold(free[host], workload, i, -1)
            for c in workload.children[i]:
                missing[c] -= 1
                if not missing[c]:
                    heappush(events, (max(now, tasks[c].earliest_start_ms), 1, c, -1))
        waiting: list[tuple[int, int]] = []
        while ready:
            entry = heappop(ready)
            i = entry[1]
            chosen = next((k for k in range(count) if _fits(free[k], workload, i)), None)
            if chosen is None:
                waiting.append(entry)
                continue
            _hold(free[chosen], workload, i, 1)
            stays[chosen].append(Stay(now, now + durations[i], i))
            heappush(events, (now + durations[i], 0, i, chosen))
        ready = waiting
    return [host for host in stays if host]


def finish_ms(stays: Sequence[Sequence[Stay]]) -> int:
    """Returns the last end."""
    return max((stay.end_ms for host in stays for stay in host), default=0)


def smallest_pool(workload: Workload, machine: MachineType, most: int) -> list[list[Stay]] | None:
    """Returns the list schedule on the fewest machines that meets the deadline, or None.

    List schedules are not monotone in the number of machines, so this is the fewest that a doubling
    and a bisection find.
    """
    count = 1
    while True:
        found = list_schedule(workload, machine, count)
        if found is None:
            return None
        if meets(workload, found):
            break
        if count >= most:
            return None
        count = min(2 * count, most)
    low = count // 2  # does not meet it, or is 0
    best, high = found, count
    while high - low > 1:
        middle = (low + high) // 2
        tried = list_schedule(workload, machine, middle)
        if tried is not None and meets(workload, tried):
            best, high = tried, middle
        else:
            low = middle
    return best


def meets(workload: Workload, stays: Sequence[Sequence[Stay]]) -> bool:
    """Whether every task ends by the deadline, and by its own where it has one."""
    for host in stays:
        for stay in host:
            own = workload.tasks[stay.task].latest_finish_ms
            if stay.end_ms > workload.deadline_ms or (own is not None and stay.end_ms > own):
                return False
    return True


def _fits(free: Sequence[int], workload: Workload, task: int) -> bool:
    t = workload.tasks[task]
    return t.cpu_millis <= free[0] and t.memory_bytes <= free[1] and t.gpu_count <= free[2]


def _hold(free: list[int], workload: Workload, task: int, sign: int) -> None:
    t = workload.tasks[task]
    free[0] -= sign * t.cpu_millis
    free[1] -= sign * t.memory_bytes
    free[2] -= sign * t.gpu_count
