"""Which CUs a run rents to share: its steps as a workload on what is sold whole in one location.

Sets
    i in S            steps that could share: some bid of the location serves each, whole
    b in W            bids of the location that are sold whole;  u_b  units of b that are free

Parameters
    d_i, load_i       time of i on the cores that it needs; what it holds
    E_i               its own earliest start, or the end of a parent that is not in S
    L_i               its own latest end, or the start of a child that is not in S
    T                 the finish that is planned for

The rest is the joint plan's (``dnm.schedule.planner``): CUs with a start-up that is billed, from
their first task's start to their last one's end. A CU is ready its start-up after it is opened, and
it is opened that much before its first task: no task starts sooner than the start-up after now.

What is not in S stays where it was planned, and when.

Where CUs that may be revoked are among them, a step that may be interrupted may use these if,
revoked at its end, it could run again in time: its latest end is then so much earlier wherever it
runs. So it is planned both with such CUs and without, and what is cheaper, expected losses counted,
is taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from cu_market.dnm.feasibility import losses
from cu_market.dnm.graph import analyse
from cu_market.dnm.programs.linear import LinearSolver
from cu_market.dnm.programs.solve import Clock
from cu_market.dnm.schedule import (
    Budget,
    JointPlan,
    MachineType,
    PlannedCU,
    Task,
    Workload,
    plan_workload,
)
from cu_market.dnm.schedule.packing import windows
from cu_market.dnm.surcharges import Priced
from cu_market.domain.bid import Bid
from cu_market.domain.outline import template_key
from cu_market.domain.plan import LossReason, Plan
from cu_market.domain.request import ResourceRequest
from cu_market.domain.units import MILLIS, MS_PER_HOUR

LEAST = 2
"""Steps that share: one alone has nobody to share with."""

WHENEVER_MS = 2**50
"""A finish that nothing passes."""

_OF_SIZE = frozenset({LossReason.TOO_FEW_CORES, LossReason.TOO_LITTLE_MEMORY})
"""What the workload knows itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """CUs to be rented, and what runs on them.

    Attributes:
        cus: of the joint plan; each one's machine is a bid_id.
        cost_microusd: their bills.
        bound_microusd: no CUs of the location serve the same steps by the same finish for less.
        is_cut: the clock ended the search.
    """

    cus: tuple[PlannedCU, ...]
    cost_microusd: int
    bound_microusd: int
    is_cut: bool

    @property
    def is_shared(self) -> bool:
        """Whether any CU has several steps."""
        return any(len(cu.stays) >= LEAST for cu in self.cus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shareable:
    """What of a run could share CUs in one location.

    Attributes:
        tasks: the steps, with windows that leave all others where they are.
        machines: the bids, without a quantity.
        units: free units of each bid.
        longest_ms: when the last one ends if each has a CU: no plan ends sooner.
        floor_microusd: no plan costs less: each step's time on the cheapest type, by the largest
            of its shares of that.
    """

    tasks: tuple[Task, ...]
    machines: tuple[MachineType, ...]
    units: Mapping[str, int]
    longest_ms: int
    floor_microusd: int

    def workload(self, finish_ms: int, *, is_counted: bool = False) -> Workload:
        """Returns it for a finish; with quantities where they count."""
        machines = self.machines
        if is_counted:
            machines = tuple(replace(each, quantity=self.units[each.name]) for each in machines)
        return Workload(tasks=self.tasks, machines=machines, deadline_ms=finish_ms)


def shareable(
    requests: Sequence[ResourceRequest],
    bids: Sequence[Bid],
    units: Mapping[str, int],
    found: Plan,
    location: str,
    *,
    with_spot: bool = False,
) -> Shareable | None:
    """Returns what of a run could share CUs in a location; None where fewer than two steps could.

    Args:
        requests: the run's.
        bids: any; those with units are looked at.
        units: free units by bid_id of what may be rented.
        found: the run's plan without sharing; it serves all.
        location: where.
        with_spot: whether CUs that may be revoked are among them; None where there are none.
    """
    sold = [b for b in bids if units.get(b.bid_id) and b.profile.location == location]
    spot = [b for b in sold if b.profile.interruption_millis_per_hour]
    sold = sold if with_spot else [b for b in sold if b not in spot]
    if not sold or (with_spot and not spot):
        return None
    retries = _retries_ms(requests) if with_spot else {}
    refused = {
        each.request_id: _refused(each, sold, is_revocable=each.request_id in retries)
        for each in requests
    }
    awards = {award.request_id: award for award in found.awards}
    place_of = {bid.bid_id: bid.profile.place for bid in bids}
    where = {name: place_of[award.bid_id].location for name, award in awards.items()}
    shared = {
        request.request_id
        for request in requests
        if request.quantity == 1
        and not _is_template(request)
        and len(refused[request.request_id]) < len(sold)
        and request.request_id in awards
        and not (request.together and where[request.request_id] != location)
    }
    if len(shared) < LEAST:
        return None
    priced = Priced(
        places={n: place_of[award.bid_id] for n, award in awards.items() if n not in shared}
    )
    ends = {a.request_id: a.start_ms + a.expected_ms for a in found.awards}
    due: dict[str, int] = {}
    for request in requests:
        if request.request_id not in shared:
            for parent in request.depends_on:
                start = awards[request.request_id].start_ms
                due[parent] = min(start, due.get(parent, start))
    tasks = []
    for request in requests:
        name = request.request_id
        if name not in shared:
            continue
        before = [ends[p] for p in request.depends_on if p in ends and p not in shared]
        latest = (request.latest_finish_ms, due.get(name), retries.get(name))
        limits = [t for t in latest if t is not None]
        moved_ms = max(priced(request, bid).extra_ms for bid in sold)
        away = refused[name]
        tasks.append(
            Task(
                task_id=name,
                duration_ms=max(1, request.duration_on(request.needs.cpu_millis, 1000) + moved_ms),
                cpu_millis=request.needs.cpu_millis,
                memory_bytes=request.needs.memory_bytes,
                gpu_count=request.needs.gpu_count,
                parents=tuple(p for p in request.depends_on if p in shared),
                earliest_start_ms=max([request.earliest_start_ms, *before]),
                latest_finish_ms=min(limits) if limits else None,
                machines=_allowed(sold, away),
            )
        )
    machines = tuple(replace(machine_of(bid), ready_ms=bid.profile.startup_ms) for bid in sold)
    return Shareable(
        tasks=tuple(tasks),
        machines=machines,
        units=units,
        longest_ms=_longest_ms(tasks, machines),
        floor_microusd=sum(_floor_microusd(task, machines) for task in tasks),
    )


def share(
    of: Shareable,
    finish_ms: int,
    *,
    solver: LinearSolver | None,
    budget: Budget,
    clock: Clock,
) -> Sharing | None:
    """Returns the CUs that serve all of it by a finish at the least cost that was found; None where
    that cannot be."""
    for is_counted in (False, True):
        workload = of.workload(finish_ms, is_counted=is_counted)
        found = plan_workload(workload, solver=solver, budget=budget, clock=clock)
        if found.unplaced:
            return None
        if is_counted or _is_within(found, of.units):
            break
    return Sharing(
        cus=found.cus,
        cost_microusd=found.cost_microusd,
        bound_microusd=found.bound_microusd,
        is_cut=found.is_cut,
    )


def finishes_ms(of: Shareable, found_ms: int, latest_ms: int | None) -> tuple[int, ...]:
    """Returns finishes that are worth planning for, the earliest first: as without sharing, between
    that and the longest path, and later ones, up to the deadline.

    Args:
        of: what shares.
        found_ms: when the run ends without sharing.
        latest_ms: the run's deadline, or None.
    """
    least = of.longest_ms
    wanted = [least, (least + found_ms) // 2, found_ms, found_ms * 3 // 2, found_ms * 2]
    if latest_ms is not None:
        wanted = [min(each, latest_ms) for each in (*wanted, latest_ms)]
    return tuple(sorted({each for each in wanted if each >= least}))


def machine_of(bid: Bid) -> MachineType:
    """Returns a bid that is sold whole as a type that can be had at once."""
    return MachineType(
        name=bid.bid_id,
        cpu_millis=bid.profile.cpu_millis,
        memory_bytes=bid.profile.memory_bytes,
        gpu_count=bid.profile.gpu_count,
        price_microusd_per_hour=bid.price_microusd_per_hour,
        performance_millis=bid.performance_millis,
        startup_ms=bid.profile.startup_ms,
        minimum_ms=bid.minimum_ms,
    )


def allowed_types(
    request: ResourceRequest, sold: Sequence[Bid], *, is_revocable: bool = False
) -> frozenset[str] | None:
    """Returns the bids that may serve a request on a shared CU; None where only its size says
    which.

    Args:
        request: what is asked.
        sold: bids of whole CUs.
        is_revocable: whether it may be on one that may be revoked.
    """
    return _allowed(sold, _refused(request, sold, is_revocable=is_revocable))


def _retries_ms(requests: Sequence[ResourceRequest]) -> dict[str, int | None]:
    """Returns by when each request that may be on a CU which may be revoked is to end there: early
    enough to run again, and all that waits for it; None where it has no latest end."""
    graph = analyse(requests)
    found: dict[str, int | None] = {}
    ends: dict[str, int] = {}
    for i in graph.order:
        request = requests[i]
        takes_ms = request.duration_on(request.needs.cpu_millis, MILLIS)
        before = (ends[parent] for parent in request.depends_on if parent in ends)
        ends[request.request_id] = max([request.earliest_start_ms, *before]) + takes_ms
        latest = request.latest_finish_ms
        if latest is not None and request.retry_must_fit:
            latest -= graph.tail_ms[i] - request.duration_ms + takes_ms
            if ends[request.request_id] > latest:
                continue
        found[request.request_id] = latest
    return found


def _refused(
    request: ResourceRequest, sold: Sequence[Bid], *, is_revocable: bool
) -> dict[str, bool]:
    """Returns the bids that cannot serve a request, and whether that is for its size alone."""
    found = {}
    for bid in sold:
        reasons = {loss.reason for loss in losses(request, bid)} - {LossReason.NO_RETRY}
        is_off = bid.profile.interruption_millis_per_hour > 0 and not is_revocable
        if is_off or reasons:
            found[bid.bid_id] = bool(reasons) and reasons <= _OF_SIZE and not is_off
    return found


def _allowed(sold: Sequence[Bid], refused: Mapping[str, bool]) -> frozenset[str] | None:
    """Returns the types that a task may use; None where only its size says which."""
    if all(refused.values()):
        return None
    return frozenset(bid.bid_id for bid in sold if bid.bid_id not in refused)


def _is_template(request: ResourceRequest) -> bool:
    """Whether it stands for mapped steps, of which nobody knows how many will come."""
    return request.own_name.endswith("[?]") and template_key(request.own_name) == request.own_name


def _longest_ms(tasks: Sequence[Task], machines: Sequence[MachineType]) -> int:
    """Returns when the last of them ends on the quickest type, with a CU for each."""
    quickest = max(machines, key=lambda machine: machine.performance_millis)
    ready = min(machine.ready_ms for machine in machines)
    workload = Workload(tasks=tuple(tasks), machines=tuple(machines), deadline_ms=WHENEVER_MS)
    takes = [quickest.duration_ms(task) for task in tasks]
    earliest = windows(workload, takes, ready).earliest
    return max(start + took for start, took in zip(earliest, takes, strict=True))


def _floor_microusd(task: Task, machines: Sequence[MachineType]) -> int:
    def costs(machine: MachineType) -> float:
        shares = [
            task.cpu_millis / machine.cpu_millis,
            task.memory_bytes / machine.memory_bytes,
            task.gpu_count / machine.gpu_count if machine.gpu_count else 0.0,
        ]
        return max(shares) * machine.price_microusd_per_hour * machine.duration_ms(task)

    return int(min(map(costs, machines)) / MS_PER_HOUR)


def _is_within(found: JointPlan, units: Mapping[str, int]) -> bool:
    """Whether no type is had more often in all than there are units."""
    had = Counter(cu.machine for cu in found.cus)
    return all(count <= units[name] for name, count in had.items())


def locations_of(bids: Sequence[Bid], units: Collection[str]) -> list[str]:
    """Returns where something may be rented, the cheapest core first."""
    cheapest: dict[str, float] = {}
    for bid in bids:
        if bid.bid_id in units:
            price = bid.price_microusd_per_hour / bid.profile.cpu_millis
            where = bid.profile.location
            cheapest[where] = min(price, cheapest.get(where, price))
    return sorted(cheapest, key=lambda where: (cheapest[where], where))
