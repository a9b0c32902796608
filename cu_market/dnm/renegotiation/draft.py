"""A schedule of what has not started, in the making: beside what CUs that are had ran and run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cu_market.dnm.schedule.bundle import (
    FAR,
    Bundle,
    Catalogue,
    Stay,
    first_fit,
    make,
    on_machine,
    profile_with,
)
from cu_market.dnm.schedule.packing import Packing, Windows, best_spot


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCU:
    """A CU that is had now.

    Attributes:
        cu_id: unique among those.
        machine: name of its type.
        stays: (task_id, start, end) of all that it ran or runs; ends to come are expectations.
    """

    cu_id: str
    machine: str
    stays: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a step is to run.

    Attributes:
        cu_id: of a CU that is had, or of one that is to be bought.
        machine: its type.
        start_ms: expected.
    """

    cu_id: str
    machine: str
    start_ms: int


@dataclass(slots=True)
class Draft:
    """A schedule of what has not started, in the making.

    Attributes:
        packing: CUs that are had, with what they ran, and those to be bought.
        now_ms: nothing starts before.
        ends: of every step that has started or was placed.
        homes: (cu_id, type) of each waiting step.
        names: cu_id by the packing's number; a new CU has none yet.
        keys: the other way round.
        held: cu_ids of those that are had.
        placed: waiting steps in the order in which they were placed.
        starts: on a CU that is not had, a waiting step keeps its planned start where it can.
    """

    packing: Packing
    now_ms: int
    ends: dict[int, int]
    homes: Mapping[int, tuple[str, int]]
    names: dict[int, str] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    placed: dict[int, None] = field(default_factory=dict)
    starts: Mapping[int, int] = field(default_factory=dict)

    def finish(self, latest: Sequence[int]) -> int:
        """Returns the deadline plus the largest delay beyond a step's latest end."""
        deadline_ms = self.packing.catalogue.workload.deadline_ms
        return deadline_ms + max([0, *(self.ends[i] - latest[i] for i in self.placed)])

    def hold(self, cu: HeldCU, kind: int) -> None:
        """Takes up a CU that is had: it keeps its type."""
        catalogue = self.packing.catalogue
        index = catalogue.workload.index
        stays = [Stay(start, max(start + 1, end), index[name]) for name, start, end in cu.stays]
        bundle = make(catalogue, stays, 1 << kind, kind) if stays else None
        if bundle is not None:
            self._name(cu.cu_id, self.packing.set(-1, bundle))
            self.held.add(cu.cu_id)

    def place(self, i: int, earliest: int, latest: int, *, is_bound: bool) -> None:
        """Puts a step where it stands if it ends there in time, else where the bill grows least."""
        parents = self.packing.catalogue.workload.parents[i]
        begin = max([earliest, *(self.ends[p] for p in parents)])
        if is_bound and self._place_at_home(i, begin, latest):
            return
        by = max(latest, begin + self.packing.shortest[i])
        found = best_spot(self.packing, i, begin, by)
        if found is None:
            self._place_at_home(i, begin, FAR)
            return
        self.packing.insert(found)
        self._took(i)

    def _place_at_home(self, i: int, begin: int, latest: int) -> bool:
        """Puts a step on its own CU, bought if need be; returns whether it ends there in time."""
        cu_id, kind = self.homes[i]
        packing = self.packing
        catalogue = packing.catalogue
        machine, load = catalogue.machines[kind], catalogue.loads[i]
        takes = machine.duration_ms(catalogue.workload.tasks[i])
        old = packing.bundles.get(self.keys.get(cu_id, -1))
        if cu_id not in self.held:
            begin = max(begin, min(self.starts.get(i, begin), latest - takes))
        if old is None:
            if begin + takes > latest:
                return False
            bundle = make(catalogue, [Stay(begin, begin + takes, i)], 1 << kind)
        else:
            room = (
                machine.cpu_millis - load[0],
                machine.memory_bytes - load[1],
                machine.gpu_count - load[2],
            )
            if min(room) < 0:  # it has outgrown this CU
                return False
            start = first_fit(old, begin, latest - takes, takes, room)
            if start is None:
                return False
            bundle = _joined(catalogue, old, Stay(start, start + takes, i))
        if bundle is None:
            return False
        self._name(cu_id, packing.set(self.keys.get(cu_id, -1), bundle))
        self._took(i)
        return True

    def _took(self, i: int) -> None:
        stay = self.packing.stays[i]
        assert stay is not None  # it was just placed
        self.ends[i] = stay.end_ms
        self.placed[i] = None

    def _name(self, cu_id: str, key: int) -> None:
        self.names[key], self.keys[cu_id] = cu_id, key


def _joined(catalogue: Catalogue, old: Bundle, stay: Stay) -> Bundle:
    """Returns a CU of a fixed type with one more stay."""
    times, used = profile_with(old, stay.start_ms, stay.end_ms, catalogue.loads[stay.task])
    choice = (catalogue.cost(old.machine, times[-1] - times[0]), old.machine)
    return on_machine(sorted((*old.stays, stay)), times, used, 1 << old.machine, choice)


def nothing_placed(catalogue: Catalogue, takes: Sequence[int]) -> Packing:
    """Returns a packing in which each step takes so long, and stands nowhere."""
    count = len(takes)
    return Packing(
        catalogue=catalogue,
        windows=Windows(earliest=(0,) * count, latest=(FAR,) * count),
        where=[-1] * count,
        stays=[None] * count,
        shortest=list(takes),
    )
