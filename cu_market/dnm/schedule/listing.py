"""List schedules on given machines: compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cu_market.dnm.compiled import Array, kept_on_disk, sources
from cu_market.dnm.schedule.workload import MachineType, Workload


def run_list(
    workload: Workload, machine: MachineType, count: int, takes: Sequence[int], tail: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Returns each task's start and the number of its machine.

    Args:
        workload: every task fits an empty machine.
        machine: the type.
        count: how many.
        takes: milliseconds of each task there.
        tail: longest path from each task's start on: the longest goes first.
    """
    tasks, tasks_count = workload.tasks, len(workload.tasks)
    needs = np.array([(t.cpu_millis, t.memory_bytes, t.gpu_count) for t in tasks], np.int64)
    ahead = [0]
    for children in workload.children:
        ahead.append(ahead[-1] + len(children))
    starts, hosts = np.full(tasks_count, -1, np.int64), np.full(tasks_count, -1, np.int64)
    free = np.empty((count, 3), np.int64)
    free[:] = (machine.cpu_millis, machine.memory_bytes, machine.gpu_count)
    _listed(
        needs.reshape(tasks_count, 3),
        np.array(takes, np.int64),
        np.array([max(machine.ready_ms, t.earliest_start_ms) for t in tasks], np.int64),
        np.array(sorted(range(tasks_count), key=lambda i: (-tail[i], i)), np.int64),
        np.array([len(parents) for parents in workload.parents], np.int64),
        np.array(ahead, np.int64),
        np.array([child for each in workload.children for child in each], np.int64),
        free,
        starts,
        hosts,
        np.empty(tasks_count, np.int64),
    )
    return starts.tolist(), hosts.tolist()


def _compiled_list(texts: str) -> Callable[..., None]:
    """Returns the list scheduler; kept on disk by what it closes over."""

    @kept_on_disk
    def listed(
        needs: Array,
        takes: Array,
        earliest: Array,
        order: Array,
        missing: Array,
        ahead: Array,
        children: Array,
        free: Array,
        starts: Array,
        hosts: Array,
        running: Array,
    ) -> None:
        """Writes starts and hosts.

        Args:
            needs: [task, dimension].
            takes: of each task.
            earliest: start of each; becomes its last parent's end where that is later.
            order: tasks, those that go first first.
            missing: parents of each that have not ended; is changed.
            ahead, children: children[ahead[i] : ahead[i + 1]] wait for task i.
            free: [machine, dimension] of room; is changed.
            starts, hosts: -1 at first.
            running: room for the tasks that run.
        """
        assert len(texts) > 0
        count, there, left = order.shape[0], 0, order.shape[0]
        now = -1
        while left > 0 or there > 0:
            later = -1  # the next moment at which something ends or arrives
            for k in range(there):
                end = starts[running[k]] + takes[running[k]]
                if later < 0 or end < later:
                    later = end
            for i in range(count):
                is_coming = hosts[i] < 0 and missing[i] == 0 and earliest[i] > now
                if is_coming and (later < 0 or earliest[i] < later):
                    later = earliest[i]
            now = later
            k = 0
            while k < there:
                i = running[k]
                if starts[i] + takes[i] > now:
                    k += 1
                    continue
                there -= 1
                running[k] = running[there]
                for dimension in range(3):
                    free[hosts[i], dimension] += needs[i, dimension]
                for at in range(ahead[i], ahead[i + 1]):
                    child = children[at]
                    missing[child] -= 1
                    earliest[child] = max(earliest[child], now)
            most = 0
            for machine in range(free.shape[0]):
                most = max(most, free[machine, 0])
            for place in range(count):
                i = order[place]
                if hosts[i] >= 0 or missing[i] > 0 or earliest[i] > now or needs[i, 0] > most:
                    continue
                for machine in range(free.shape[0]):
                    if (
                        needs[i, 0] <= free[machine, 0]
                        and needs[i, 1] <= free[machine, 1]
                        and needs[i, 2] <= free[machine, 2]
                    ):
                        for dimension in range(3):
                            free[machine, dimension] -= needs[i, dimension]
                        starts[i], hosts[i] = now, machine
                        running[there] = i
                        there += 1
                        left -= 1
                        break

    return listed


_listed = _compiled_list(sources(Path(__file__).parent))
