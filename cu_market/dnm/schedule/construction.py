"""First schedules: by insertion, on one machine of each type, on pools of equal machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from cu_market.dnm.schedule.bundle import Catalogue, Stay, make
from cu_market.dnm.schedule.idle import split_idle
from cu_market.dnm.schedule.packing import Packing, best_spot, empty
from cu_market.dnm.schedule.seeds import list_schedule, meets, smallest_pool
from cu_market.dnm.schedule.workload import MachineType

INSERTION = "insertion"
LARGEST_POOL_TYPES = 12
"""Pools are tried of so many types, those with the cheapest core first."""


def inserted(catalogue: Catalogue, *, is_late: bool = False) -> Packing:
    """Returns the schedule of one insertion a task, in the order of latest starts.

    A task that finds no place, and what waits for it, stand nowhere.
    """
    packing = empty(catalogue)
    workload, windows = catalogue.workload, packing.windows
    position = {i: k for k, i in enumerate(workload.order)}
    queue = sorted(
        workload.order, key=lambda i: (windows.latest[i] - packing.shortest[i], position[i])
    )
    for i in queue:
        # Parents have earlier latest starts: they have had their turn, and no child has.
        before = [packing.stays[p] for p in workload.parents[i]]
        ends = [stay.end_ms for stay in before if stay is not None]
        if len(ends) == len(before):
            earliest = max([windows.earliest[i], *ends])
            spot = best_spot(packing, i, earliest, windows.latest[i], is_late=is_late)
            if spot is not None:
                packing.insert(spot)
    return packing


def constructions(
    catalogue: Catalogue, is_over: Callable[[], bool] = lambda: False
) -> Iterator[tuple[str, Packing]]:
    """Yields (name, schedule) of everything that meets the deadline, until the clock ends it.

    Insertion comes first and may leave tasks out; the others are whole.

    A machine of a type at a time, cheapest first, comes before the pools, so that no policy with
    one machine is ever cheaper than what is chosen from these.
    """
    yield INSERTION, inserted(catalogue)
    for machine in catalogue.machines:
        found = list_schedule(catalogue.workload, machine, 1)
        if found is not None and meets(catalogue.workload, found):
            seed = _packed(catalogue, machine, found)
            if seed is not None:
                yield f"one {machine.name}", seed
        if is_over():
            return
    by_core = sorted(
        (m for m in catalogue.machines if m.quantity is None),
        key=lambda m: (m.price_microusd_per_hour / m.cpu_millis, m.cpu_millis, m.name),
    )
    for machine in by_core[:LARGEST_POOL_TYPES]:
        pool = smallest_pool(catalogue.workload, machine, len(catalogue.loads))
        if pool is not None:
            seed = _packed(catalogue, machine, pool)
            if seed is not None:
                yield f"{len(pool)} {machine.name}", seed
        if is_over():
            return


def _packed(
    catalogue: Catalogue, machine: MachineType, hosts: Sequence[Sequence[Stay]]
) -> Packing | None:
    """Returns the stays as a schedule; None for a type that is counted: insertion counts."""
    if machine.quantity is not None:
        return None
    packing = empty(catalogue)
    kind = catalogue.machines.index(machine)
    mask = next(m for m in catalogue.speeds if m >> kind & 1)
    for stays in hosts:
        bundle = make(catalogue, stays, mask)
        if bundle is None:
            return None
        packing.set(-1, bundle)
    split_idle(packing)
    return packing
