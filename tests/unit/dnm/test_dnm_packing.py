from __future__ import annotations

from cu_market.dnm.schedule.bundle import Catalogue
from cu_market.dnm.schedule.packing import Packing, best_spot, empty
from cu_market.dnm.schedule.planner import plan_workload
from cu_market.dnm.schedule.verify import flaws
from cu_market.dnm.schedule.workload import MachineType, Task, Workload
from cu_market.domain.units import GIB


def machine(name: str, cores: int, memory_gib: int, price: int, **more: int) -> MachineType:
    return MachineType(
        name=name,
        cpu_millis=1000 * cores,
        memory_bytes=memory_gib * GIB,
        price_microusd_per_hour=price,
        **more,
    )


def task(name: str, memory_gib: int = 0, cores: int = 1, ms: int = 1, **more: object) -> Task:
    return Task(
        task_id=name,
        duration_ms=ms,
        cpu_millis=1000 * cores,
        memory_bytes=memory_gib * GIB,
        **more,  # type: ignore[arg-type]
    )


def put(packing: Packing, i: int, earliest: int, latest: int) -> None:
    spot = best_spot(packing, i, earliest, latest)
    assert spot is not None
    packing.insert(spot)


def test_a_cu_never_becomes_a_dearer_type_that_is_too_small_for_it() -> None:
    workload = Workload(
        tasks=(task("left"), task("right"), task("large", 3)),
        machines=(
            machine("wide", 8, 2, 23, minimum_ms=60_000, quantity=1),
            machine("deep", 1, 8, 1754, minimum_ms=60_000, quantity=1),
        ),
        deadline_ms=1000,
    )
    packing = empty(Catalogue(workload))
    put(packing, 0, 0, 1)
    put(packing, 1, 0, 1)
    assert len(packing.bundles) == 1  # side by side on the wide one
    put(packing, 2, 1, 1000)
    for bundle in packing.bundles.values():
        type_ = packing.catalogue.machines[bundle.machine]
        has = (type_.cpu_millis, type_.memory_bytes, type_.gpu_count)
        assert all(held <= most for held, most in zip(bundle.peak, has, strict=True))
    assert len(packing.bundles) == 2


def test_of_plans_of_one_cost_the_one_whose_bills_round_to_less_is_taken() -> None:
    workload = Workload(
        tasks=(
            task("a", cores=3, ms=999),
            task("b", cores=2, ms=999),
            task("c", parents=("a", "b")),
        ),
        machines=(machine("only", 4, 2, 1802, billing_step_ms=1),),
        deadline_ms=60_000,
    )
    plan = plan_workload(workload, solver=None)
    assert not flaws(workload, plan)
    assert plan.cost_microusd == 1  # 1,999 ms of one CU; as two CUs, each bill would round up to 1
