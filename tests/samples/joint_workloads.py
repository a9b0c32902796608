"""Small workloads of every kind: counted types, several speeds, GPUs, named types, own windows."""

from __future__ import annotations

from hypothesis import strategies as st

from cu_market.dnm.schedule import MachineType, Task, Workload

GIB = 2**30


@st.composite
def tasks_of(draw: st.DrawFn) -> tuple[Task, ...]:
    count = draw(st.integers(1, 9))
    return tuple(
        Task(
            task_id=f"t{i}",
            duration_ms=draw(st.sampled_from([1, 999, 10_000, 60_000, 600_000])),
            cpu_millis=1000 * draw(st.integers(1, 4)),
            memory_bytes=draw(st.integers(0, 8)) * GIB,
            gpu_count=draw(st.sampled_from([0, 0, 0, 1])),
            parents=tuple(f"t{j}" for j in range(i) if draw(st.integers(0, 3)) == 0),
            earliest_start_ms=draw(st.sampled_from([0, 0, 5000])),
            latest_finish_ms=draw(st.sampled_from([None, None, None, 700_000])),
            machines=draw(st.sampled_from([None, None, None, frozenset({"m0", "m1"})])),
        )
        for i in range(count)
    )


@st.composite
def machines_of(draw: st.DrawFn) -> tuple[MachineType, ...]:
    return tuple(
        MachineType(
            name=f"m{k}",
            cpu_millis=1000 * draw(st.sampled_from([1, 2, 4, 8])),
            memory_bytes=draw(st.sampled_from([2, 8, 32])) * GIB,
            gpu_count=draw(st.sampled_from([0, 0, 1])),
            price_microusd_per_hour=draw(st.integers(0, 400_000)),
            performance_millis=draw(st.sampled_from([1000, 1000, 700, 1500])),
            startup_ms=draw(st.sampled_from([0, 45_000])),
            ready_ms=draw(st.sampled_from([0, 0, 30_000])),
            minimum_ms=draw(st.sampled_from([0, 60_000])),
            billing_step_ms=draw(st.sampled_from([1, 1000])),
            quantity=draw(st.sampled_from([None, None, 1, 2])),
        )
        for k in range(draw(st.integers(1, 4)))
    )


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    return Workload(
        tasks=draw(tasks_of()),
        machines=draw(machines_of()),
        deadline_ms=draw(st.sampled_from([60_000, 700_000, 2_000_000, 10_000_000])),
    )


SIZES = tuple(
    MachineType(
        name=f"m{cores}",
        cpu_millis=1000 * cores,
        memory_bytes=cores * 2 * GIB,
        price_microusd_per_hour=price,
        startup_ms=45_000,
        minimum_ms=60_000,
        billing_step_ms=1000,
    )
    for cores, price in ((1, 50_000), (2, 76_000), (8, 300_000))
)
"""Types of one family: any number, equal speed and terms."""


@st.composite
def graphs(draw: st.DrawFn, least: int = 1) -> tuple[Task, ...]:
    """Tasks that the largest of SIZES holds one by one."""
    return tuple(
        Task(
            task_id=f"t{i}",
            duration_ms=draw(st.sampled_from([1, 999, 10_000, 60_500, 600_000])),
            cpu_millis=1000 * draw(st.integers(1, 4)),
            memory_bytes=draw(st.integers(1, 8)) * GIB // 2,
            parents=tuple(f"t{j}" for j in range(i) if draw(st.integers(0, 3)) == 0),
        )
        for i in range(draw(st.integers(least, 12)))
    )
