"""The compiled list scheduler against one that is written down as the rule is said."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from joint_workloads import workloads

from cu_market.dnm.schedule.bundle import Stay
from cu_market.dnm.schedule.seeds import list_schedule, tails
from cu_market.dnm.schedule.workload import MachineType, Workload


@settings(max_examples=150, deadline=None)
@given(workloads(), st.integers(1, 4), st.data())
def test_ready_tasks_go_by_their_tails_to_the_first_machine_with_room(
    workload: Workload, count: int, data: st.DataObject
) -> None:
    machine = data.draw(st.sampled_from(workload.machines))
    found = list_schedule(workload, machine, count)
    if found is None:
        assert any(not fits(workload, machine, [i]) for i in range(len(workload.tasks)))
        return
    expected = as_said(workload, machine, count)
    assert [sorted(host) for host in found] == [sorted(host) for host in expected if host]


def as_said(workload: Workload, machine: MachineType, count: int) -> list[list[Stay]]:
    """At every moment at which something ends or arrives, each ready task in its turn."""
    takes = [machine.duration_ms(task) for task in workload.tasks]
    tail = tails(workload, takes)
    hosts: list[list[Stay]] = [[] for _ in range(count)]
    done: dict[int, int] = {}
    moments = {max(machine.ready_ms, t.earliest_start_ms) for t in workload.tasks}
    while moments:
        now = min(moments)
        moments.remove(now)
        for i in sorted(range(len(takes)), key=lambda i: (-tail[i], i)):
            arrived = max(machine.ready_ms, workload.tasks[i].earliest_start_ms) <= now
            if i in done or not arrived:
                continue
            if any(done.get(p, now + 1) > now for p in workload.parents[i]):
                continue
            for host in hosts:
                beside = [stay.task for stay in host if stay.end_ms > now]
                if fits(workload, machine, [*beside, i]):
                    host.append(Stay(now, now + takes[i], i))
                    done[i] = now + takes[i]
                    moments.add(done[i])
                    break
    return hosts


def fits(workload: Workload, machine: MachineType, members: list[int]) -> bool:
    tasks = [workload.tasks[i] for i in members]
    return (
        sum(t.cpu_millis for t in tasks) <= machine.cpu_millis
        and sum(t.memory_bytes for t in tasks) <= machine.memory_bytes
        and sum(t.gpu_count for t in tasks) <= machine.gpu_count
        and all(t.machines is None or machine.name in t.machines for t in tasks)
    )
