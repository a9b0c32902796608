"""What is left on a run's rented CUs, planned anew: where each step is, what is to be rented.

The plan of what is left (``dnm.renegotiation.Replanner``), with CUs that are open as those that are
had: what runs stays, what waits goes to them, to CUs that are planned, or to new ones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from cu_market.dnm.renegotiation import HeldCU, Place, Replanner, Spread
from cu_market.dnm.renting.sharing import allowed_types, machine_of
from cu_market.dnm.schedule import MachineType, Task, Workload
from cu_market.dnm.schedule.bundle import Catalogue
from cu_market.domain.bid import Bid
from cu_market.domain.rental import Rental, RentalState
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A step that waits on a rental. Times are milliseconds after the run's start.

    Attributes:
        request: what it asks.
        size: what it leases there.
        rental: which.
        planned_ms: when it is to start.
        earliest_ms: when what it waits for elsewhere lets it.
        latest_ms: when something elsewhere is to start that waits for it, or None.
        retry_ms: by when it is to end where it may be revoked, or None.
        parents: those of its parents that wait or run on rentals.
    """

    request: ResourceRequest
    size: ResourceVector
    rental: Rental
    planned_ms: int
    earliest_ms: int = 0
    latest_ms: int | None = None
    retry_ms: int | None = None
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """An attempt that ran, or runs, on a rental; times as Waiting has them.

    Attributes:
        step_key: whose.
        rental_id: where.
        start_ms, end_ms: its end is expected, where it is later than now.
        size: what it holds.
    """

    step_key: str
    rental_id: str
    start_ms: int
    end_ms: int
    size: ResourceVector


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What is left on a run's rentals.

    Attributes:
        now_ms: after the run's start.
        waiting: by step.
        ready: those that wait for nothing any more.
        stays: all of open rentals.
        rentals: open ones, each with when it was opened.
        deadline_ms: of the run, or when it was planned to end.
        bill_microusd: of the rentals as they were first planned.
        spreads: of durations, by step.
    """

    now_ms: int
    waiting: Mapping[str, Waiting]
    ready: Collection[str]
    stays: Sequence[Stay]
    rentals: Mapping[str, int]
    deadline_ms: int
    bill_microusd: int
    spreads: Mapping[str, Spread]


def replanned(left: Left, bids: Sequence[Bid], known: Sequence[Rental]) -> dict[str, Place]:
    """Returns each waiting step's place from now on: the rental's name where it is on one that is
    known, else another; the machine is a bid_id.

    Args:
        left: what is left.
        bids: of CUs that may be rented now.
        known: the run's rentals that stand; open ones may be offered no more.
    """
    opened = {each.rental_id: each for each in known if each.state is RentalState.OPEN}
    offered = [machine_of(bid) for bid in bids]
    # One that is open has its own price, and its like may not be had again.
    machines = [*offered, *map(machine_of_rental, opened.values())]
    running = [stay for stay in left.stays if stay.end_ms > left.now_ms]
    tasks = [_running(stay) for stay in running]
    tasks += [_task(name, each, bids) for name, each in left.waiting.items()]
    workload = Workload(
        tasks=tuple(tasks),
        machines=tuple(machines),
        deadline_ms=max(1, left.deadline_ms),
    )
    kept = Catalogue(workload).machines
    replanner = Replanner(workload, spreads=left.spreads, bill_microusd=left.bill_microusd)
    places = {
        name: Place(
            cu_id=each.rental.resource_id,
            machine=each.rental.rental_id
            if each.rental.rental_id in opened
            else _kept(each.rental.bid_id, offered, kept),
            start_ms=each.planned_ms,
        )
        for name, each in left.waiting.items()
    }
    held = [_held(rental, left) for rental in opened.values()]
    return replanner.revise(left.now_ms, held, places, left.ready)


def _kept(name: str, offered: Sequence[MachineType], kept: Sequence[MachineType]) -> str:
    """Returns a type of a CU that is not had yet; where another has become better, that."""
    own = next(machine for machine in offered if machine.name == name)
    if own in kept:
        return name
    return next(
        m.name
        for m in kept
        if m.quantity is None
        and m.performance_millis == own.performance_millis
        and m.price_microusd_per_hour <= own.price_microusd_per_hour
        and (m.cpu_millis >= own.cpu_millis and m.memory_bytes >= own.memory_bytes)
        and m.gpu_count >= own.gpu_count
    )


def machine_of_rental(rental: Rental) -> MachineType:
    """Returns the type of an open rental, of which there is no other one."""
    return MachineType(
        name=rental.rental_id,
        quantity=1,
        cpu_millis=rental.size.cpu_millis,
        memory_bytes=rental.size.memory_bytes,
        gpu_count=rental.size.gpu_count,
        price_microusd_per_hour=rental.price_microusd_per_hour,
        performance_millis=rental.profile.performance_millis,
        startup_ms=rental.profile.startup_ms,
        minimum_ms=rental.minimum_ms,
    )


def _held(rental: Rental, left: Left) -> HeldCU:
    """Returns an open rental. One on which nothing has begun is paid for until now in any case."""
    stays = tuple(
        (stay.step_key, stay.start_ms, stay.end_ms)
        for stay in left.stays
        if stay.rental_id == rental.rental_id
    )
    opened_ms = left.rentals[rental.rental_id]
    first_ms = opened_ms + rental.profile.startup_ms
    return HeldCU(
        cu_id=rental.resource_id,
        machine=rental.rental_id,
        stays=stays or ((f"\0{rental.rental_id}", first_ms, max(first_ms + 1, left.now_ms)),),
    )


def _running(stay: Stay) -> Task:
    return Task(
        task_id=stay.step_key,
        duration_ms=max(1, stay.end_ms - stay.start_ms),
        cpu_millis=stay.size.cpu_millis,
        memory_bytes=stay.size.memory_bytes,
        gpu_count=stay.size.gpu_count,
    )


def _task(name: str, each: Waiting, bids: Sequence[Bid]) -> Task:
    asked = replace(each.request, needs=each.size, latest_finish_ms=None)
    takes_ms = max(1, each.request.duration_on(each.size.cpu_millis, 1000))
    # What was planned where it may be revoked may be while a retry fits; nothing else goes there.
    was_revocable = each.rental.profile.interruption_millis_per_hour > 0
    fits = each.retry_ms is None or each.earliest_ms + takes_ms <= each.retry_ms
    allowed = allowed_types(asked, bids, is_revocable=was_revocable and fits)
    limits = [each.latest_ms, each.retry_ms if was_revocable and fits else None]
    latest = [limit for limit in limits if limit is not None]
    return Task(
        task_id=name,
        duration_ms=takes_ms,
        cpu_millis=each.size.cpu_millis,
        memory_bytes=each.size.memory_bytes,
        gpu_count=each.size.gpu_count,
        parents=each.parents,
        earliest_start_ms=each.earliest_ms,
        latest_finish_ms=min(latest, default=None),
        machines=None if allowed is None else allowed | {each.rental.rental_id},
    )
