"""A schedule in the making: which task stands where, when each could move, and the best insertion.

Insertion puts one task where the bill grows least, into a CU that is there (side by side, before,
between or after its tasks, the CU changing its type where it must) or into a new one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cu_market.dnm.schedule.bundle import (
    FAR,
    Bundle,
    Catalogue,
    Load,
    Stay,
    first_fit,
    last_fit,
    microusd,
    on_machine,
    peak_of,
    profile_with,
    without,
)
from cu_market.dnm.schedule.workload import Workload

MOST_TYPES = 4
"""Types tried for a CU that a task joins: its own and the next dearer ones that hold the task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """When each task could start at the earliest and must end at the latest, in milliseconds.

    Attributes:
        earliest: ES_i = max(own, max over parents of ES_p + shortest time).
        latest: LF_i = min(own, deadline, min over children of LF_c - shortest time).
    """

    earliest: tuple[int, ...]
    latest: tuple[int, ...]


def windows(workload: Workload, shortest: Sequence[int], ready_ms: int = 0) -> Windows:
    """Returns the windows that graph and deadline leave at the shortest times."""
    earliest, latest = [0] * len(shortest), [0] * len(shortest)
    for i in workload.order:
        own = max(ready_ms, workload.tasks[i].earliest_start_ms)
        earliest[i] = max([own, *(earliest[p] + shortest[p] for p in workload.parents[i])])
    for i in reversed(workload.order):
        own_latest = workload.tasks[i].latest_finish_ms
        limit = workload.deadline_ms if own_latest is None else own_latest
        later = (latest[c] - shortest[c] for c in workload.children[i])
        latest[i] = min([limit, workload.deadline_ms, *later])
    return Windows(earliest=tuple(earliest), latest=tuple(latest))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Where a task could be put.

    Attributes:
        more: how much the bill grows, times MS_PER_HOUR.
        key: number of the CU, or -1 for a new one.
        bundle: that CU with the task on it.
        stay: the task's time.
    """

    more: int
    key: int
    bundle: Bundle
    stay: Stay


@dataclass(slots=True)
class Packing:
    """CUs by number, and where each task stands.

    Attributes:
        catalogue: types, loads.
        windows: at the shortest times.
        bundles: by number.
        where: number of each task's CU, -1 where it stands nowhere.
        stays: each task's time, None where it stands nowhere.
        fresh: the next CU's number.
    """

    catalogue: Catalogue
    windows: Windows
    bundles: dict[int, Bundle] = field(default_factory=dict)
    where: list[int] = field(default_factory=list)
    stays: list[Stay | None] = field(default_factory=list)
    fresh: int = 0
    shortest: list[int] = field(default_factory=list)

    @property
    def cost(self) -> int:
        """The whole bill, times MS_PER_HOUR."""
        return sum(bundle.cost for bundle in self.bundles.values())

    @property
    def bill(self) -> tuple[int, int]:
        """What is paid, in micro-dollars rounded for each CU, then the cost: what plans rank by.

        Of two plans of equal cost, that on more CUs can be dearer once each bill is rounded.
        """
        return sum(microusd(bundle.cost) for bundle in self.bundles.values()), self.cost

    def copy(self) -> Packing:
        """Returns a packing that can be changed without changing this one."""
        return Packing(
            catalogue=self.catalogue,
            windows=self.windows,
            bundles=dict(self.bundles),
            where=list(self.where),
            stays=list(self.stays),
            fresh=self.fresh,
            shortest=self.shortest,
        )

    def set(self, key: int, bundle: Bundle) -> int:
        """Puts a CU in place, under a new number where the key is -1; returns its number."""
        if key < 0:
            key, self.fresh = self.fresh, self.fresh + 1
        self.bundles[key] = bundle
        for stay in bundle.stays:
            self.where[stay.task] = key
            self.stays[stay.task] = stay
        return key

    def remove(self, tasks: Iterable[int]) -> None:
        """Takes tasks off their CUs; a CU without tasks is given up."""
        gone: dict[int, set[int]] = {}
        for i in tasks:
            if self.where[i] >= 0:
                gone.setdefault(self.where[i], set()).add(i)
                self.where[i], self.stays[i] = -1, None
        for key, members in gone.items():
            old = self.bundles.pop(key)
            left = without(self.catalogue, old, members)
            if left is not None:
                self.bundles[key] = left

    def insert(self, spot: Spot) -> None:
        """Puts a task where it was found to fit."""
        key, task = spot.key, spot.stay.task
        if key < 0:
            key, self.fresh = self.fresh, self.fresh + 1
        self.bundles[key], self.where[task], self.stays[task] = spot.bundle, key, spot.stay


def empty(catalogue: Catalogue) -> Packing:
    """Returns a packing in which no task stands anywhere."""
    count = len(catalogue.workload.tasks)
    shortest = [max(1, catalogue.fastest(i)) for i in range(count)]
    ready = min((m.ready_ms for m in catalogue.machines), default=0)
    return Packing(
        catalogue=catalogue,
        windows=windows(catalogue.workload, shortest, ready),
        where=[-1] * count,
        stays=[None] * count,
        shortest=shortest,
    )


def best_spot(
    packing: Packing,
    task: int,
    earliest_ms: int,
    latest_ms: int,
    *,
    is_late: bool = False,
) -> Spot | None:
    """Returns where the bill grows least; None where the task fits nowhere in its window.

    Equal growth goes to the earlier start (the later one with is_late), then to the older CU.

    Args:
        packing: where the others stand.
        task: stands nowhere.
        earliest_ms, latest_ms: its window.
        is_late: see above.
    """
    catalogue = packing.catalogue
    load, own = catalogue.loads[task], catalogue.masks[task]
    sign = -1 if is_late else 1
    best: tuple[int, int, int] | None = None
    found: tuple[int, int, int, int] | None = None  # key, start, end, type
    for mask in catalogue.speeds:
        allowed = mask & own
        if not allowed:
            continue
        takes = catalogue.duration(task, allowed)
        ready = catalogue.machines[(allowed & -allowed).bit_length() - 1].ready_ms
        begin, last = max(earliest_ms, ready), latest_ms - takes
        if begin > last:
            continue
        start = last if is_late else begin
        alone = _fitting(packing, -1, load, allowed, start, start + takes)
        if alone is not None:
            rank = (alone[0], sign * start, FAR)
            if best is None or rank < best:
                best, found = rank, (-1, start, start + takes, alone[1])
        for key, bundle in packing.bundles.items():
            if bundle.mask & allowed:
                limit = FAR if best is None else best[0]
                least = _least_span(catalogue, bundle, takes, begin, last)
                # With equal terms its own type is the cheapest of those that it could become.
                is_dearer = catalogue.cost(bundle.machine, least) - bundle.cost > limit
                if is_dearer and catalogue.is_uniform:
                    continue
                joined = _join(packing, key, load, allowed, takes, begin, last, limit, sign)
                if joined is not None:
                    more, signed, kind = joined
                    start = sign * signed
                    rank = (more, signed, key)
                    if best is None or rank < best:
                        best, found = rank, (key, start, start + takes, kind)
    if best is None or found is None:
        return None
    key, start, end, kind = found
    stay = Stay(start, end, task)
    return Spot(more=best[0], key=key, bundle=_joined(packing, key, stay, kind), stay=stay)


def _least_span(catalogue: Catalogue, bundle: Bundle, takes: int, begin: int, last: int) -> int:
    """Returns how long a CU must be had at least once the task has joined it, in milliseconds."""
    span = bundle.last_ms - bundle.first_ms
    later, sooner = begin + takes - bundle.last_ms, bundle.first_ms - last
    return span + (later if later > 0 else 0) + (sooner if sooner > 0 else 0)


def _join(
    packing: Packing,
    key: int,
    load: Load,
    allowed: int,
    takes: int,
    begin: int,
    last: int,
    limit: int,
    sign: int,
) -> tuple[int, int, int] | None:
    """Returns (growth, signed start, type) of the best start on one CU, or None above the limit.

    On one type only three starts can be best: one that leaves the CU's first start and last end as
    they are, the nearest one after them, the nearest one before them.
    """
    catalogue, bundle = packing.catalogue, packing.bundles[key]
    mask = bundle.mask & allowed
    least = bundle.last_ms - bundle.first_ms
    if catalogue.is_uniform:
        least = _least_span(catalogue, bundle, takes, begin, last)
    peak_cpu, peak_memory, peak_gpus = bundle.peak
    best: tuple[int, int, int] | None = None
    tried = 0
    for kind in range(bundle.machine, len(catalogue.machines)):
        if not mask >> kind & 1:
            continue
        dearer = catalogue.cost(kind, least) - bundle.cost
        if dearer > limit or (best and dearer == limit) or tried == MOST_TYPES:
            break  # types are in the order of their prices
        cpu, memory, gpus = catalogue.sizes[kind]
        # A dearer type is not larger in everything: it must hold what is there already, too.
        if peak_cpu > cpu or peak_memory > memory or peak_gpus > gpus:
            continue
        room = (cpu - load[0], memory - load[1], gpus - load[2])
        if min(room) < 0:
            continue
        tried += 1
        span = catalogue.longest(kind, limit + bundle.cost)
        for start in _starts(bundle, begin, last, takes, room, sign, span):
            first = bundle.first_ms if bundle.first_ms < start else start
            final = bundle.last_ms if bundle.last_ms > start + takes else start + takes
            more = catalogue.cost(kind, final - first) - bundle.cost
            if more > limit or (best is not None and (more, sign * start) >= best[:2]):
                continue
            quantity = catalogue.machines[kind].quantity
            if quantity is not None and units_held(packing, kind, first, final, key) >= quantity:
                continue
            best, limit = (more, sign * start, kind), more
    return best


def _starts(
    bundle: Bundle, begin: int, last: int, takes: int, room: Load, sign: int, span: int
) -> list[int]:
    """Returns the starts that could be best on a type that leaves so much room for such a span."""
    first, final = bundle.first_ms, bundle.last_ms
    fit = first_fit if sign > 0 else last_fit
    inside = fit(bundle, max(begin, first), min(last, final - takes), takes, room)
    if inside is not None:
        return [inside]
    after, before = max(begin, final - takes + 1), min(last, first - 1)
    found = (
        first_fit(bundle, after, min(last, first + span - takes), takes, room),
        last_fit(bundle, max(begin, final - span), before, takes, room),
    )
    return [start for start in found if start is not None]


def _fitting(
    packing: Packing, key: int, peak: Load, mask: int, first: int, last: int
) -> tuple[int, int] | None:
    """Returns (cost, type) of the cheapest type with a unit left for that time, or None."""
    catalogue = packing.catalogue
    best: tuple[int, int] | None = None
    for kind in catalogue.holding(peak, mask):
        quantity = catalogue.machines[kind].quantity
        if quantity is not None and units_held(packing, kind, first, last, key) >= quantity:
            continue
        option = (catalogue.cost(kind, last - first), kind)
        if best is None or option < best:
            best = option
    return best


def units_held(packing: Packing, kind: int, first: int, last: int, but: int) -> int:
    """Returns the most units of a type that other CUs hold at one moment of [first, last)."""
    startup = packing.catalogue.machines[kind].startup_ms
    spans = [
        (bundle.first_ms - startup, bundle.last_ms)
        for key, bundle in packing.bundles.items()
        if key != but and bundle.machine == kind
    ]
    first -= startup
    over = [(a, b) for a, b in spans if a < last and b > first]
    points = [first, *(a for a, _ in over if a > first)]
    return max(sum(a <= point < b for a, b in over) for point in points)


def _joined(packing: Packing, key: int, stay: Stay, kind: int) -> Bundle:
    catalogue = packing.catalogue
    own = catalogue.masks[stay.task]
    old = packing.bundles.get(key)
    load = catalogue.loads[stay.task]
    stays: tuple[Stay, ...] = (stay,)
    times: tuple[int, ...] = (stay.start_ms, stay.end_ms)
    used: tuple[Load, ...] = (load, (0, 0, 0))
    mask = own & next(m for m in catalogue.speeds if m >> kind & 1)
    if old is not None:
        at = bisect_left(old.stays, stay)
        stays, mask = (*old.stays[:at], stay, *old.stays[at:]), old.mask & own
        times, used = profile_with(old, stay.start_ms, stay.end_ms, load)
    span = times[-1] - times[0]
    choice = (catalogue.cost(kind, span), kind)
    if catalogue.machines[kind].quantity is None:
        choice = min(choice, catalogue.cheapest(peak_of(used), mask, span) or choice)
    return on_machine(stays, times, used, mask, choice)
