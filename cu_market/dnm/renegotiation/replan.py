"""What is left of a run is planned anew whenever something ends: for forecasts that may be wrong.

Sets, parameters and constraints are those of ``schedule.planner``, over what is left (``rest``). A
CU that is had keeps its type and its first start, what runs stays until its expected end
(``remaining``), and durations are forecast medians. Each step i is to end by L_i
(``latest_ends``). What ends later is paid for, since forecasts that say "late" may be wrong (D is
the deadline):

    min   bill + LATENESS_PRICE (bill as planned) / D x (slip + STEEPNESS (slip - SLIGHT D)+),
          slip = max_i (e_i - L_i)+

The search keeps windows, and knows no price of time. So it runs from three schedules, and the best
of what it finds is taken: as it stands (each step on its CU, in the planned order), whatever that
slips; and with half of that slip, and with none, for which what would end later goes where the bill
grows least.

Nothing of such a plan depends on when in its windows a step starts; of what really happens, much
does. So what is ready starts at once where a CU has room for it beside all that is planned there,
and is had for as long anyway. And a CU that is to be bought waits for half of the time that its
steps can, while anything runs: what ends until then may show that it is not needed.

A plan that is only followed, with each step on its planned CU until that has room, is late by every
error of its forecasts; one in which steps take room wherever there is some buys CUs that a plan of
what is left would not need. Figures: docs/decisions/0007-accounts-and-renegotiation.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from cu_market.dnm.renegotiation.draft import Draft, HeldCU, Place, nothing_placed
from cu_market.dnm.renegotiation.latest_ends import LatestEnds
from cu_market.dnm.renegotiation.remaining import Spread
from cu_market.dnm.renegotiation.rest import Rest, rest_of
from cu_market.dnm.schedule.bundle import Bundle, Catalogue, Stay, first_fit, make, without
from cu_market.dnm.schedule.packing import Packing, Windows
from cu_market.dnm.schedule.workload import MachineType, Workload
from cu_market.domain.units import MS_PER_HOUR

LATENESS_PRICE = 0.6
"""Of the bill as planned: what a slip of the whole deadline costs, while it is slight."""

SLIGHT, STEEPNESS = 0.2, 10.0
"""A slip beyond that part of the deadline is no matter of forecasts any more: it costs so many
times as much on top."""

SHARES = (0.0, 0.5)
"""Of the slip as it stands: how much is allowed to the other schedules that are searched."""

POSTPONED = 0.5
"""Of the time that all steps of a CU that is to be bought can wait: how long it does."""

ROUNDS = 1000
FIRST_ROUNDS = 3 * ROUNDS
"""Before anything is had, when all is still open."""

WHENEVER = 2**60
"""An allowance that is never used up."""


class Replanner:
    """Plans what is left of one run, again and again.

    Args:
        workload: its steps with forecast medians, machine types, deadline.
        spreads: of durations about them, by step; exact where not given.
        bill_microusd: of the plan that the run began with.
    """

    def __init__(
        self, workload: Workload, *, spreads: Mapping[str, Spread], bill_microusd: int
    ) -> None:
        self._workload = workload
        self._machines = Catalogue(workload).machines
        self._latest_ends = LatestEnds(workload, spreads)
        self._late_price = (
            LATENESS_PRICE * bill_microusd * MS_PER_HOUR / max(1, workload.deadline_ms)
        )
        self._count = 0

    def revise(
        self,
        now_ms: int,
        held: Sequence[HeldCU],
        places: Mapping[str, Place],
        ready: Collection[str],
    ) -> dict[str, Place]:
        """Returns each waiting step's place from now on; what is to start now starts now.

        Args:
            now_ms: after the run's start, as every other time.
            held: the CUs that are had; what they run is left alone.
            places: where the waiting steps stand.
            ready: those of them whose parents have ended.
        """
        from cu_market.dnm.schedule.search import search  # numba: off the light path

        if not places:
            return {}
        self._count += 1
        left = _Left(
            rest=rest_of(self._workload, self._types(held, places), now_ms, held, places),
            now_ms=now_ms,
            places=places,
            latest_ends=self._latest_ends,
        )
        rounds = ROUNDS if held else FIRST_ROUNDS
        found: list[tuple[float, int, Packing]] = []
        for packing in left.starts():
            best = search(
                packing,
                rounds=rounds,
                is_over=lambda: False,
                seed=self._count,
                fixed=range(left.rest.standing),
            ).best
            price = best.cost + self._lateness(left.slip_ms(best))
            found.append((price, len(found), best))
        best = min(found, key=lambda each: each[:2])[2]
        if left.is_running:
            _postpone(best, left)
        _start_now(best, now_ms, [left.index[name] for name in ready])
        return left.places_of(best)

    def _lateness(self, slip_ms: int) -> float:
        """Returns what a slip costs, times MS_PER_HOUR."""
        beyond = max(0.0, slip_ms - SLIGHT * self._workload.deadline_ms)
        return self._late_price * (slip_ms + STEEPNESS * beyond)

    def _types(self, held: Sequence[HeldCU], places: Mapping[str, Place]) -> list[MachineType]:
        """Returns the types that are worth buying, and those that the CUs have."""
        named = {cu.machine for cu in held} | {place.machine for place in places.values()}
        known = {machine.name for machine in self._machines}
        others = [m for m in self._workload.machines if m.name in named - known]
        return [*self._machines, *others]


@dataclass(slots=True, kw_only=True)
class _Left:
    """What is left at one moment, and schedules of it.

    Attributes:
        rest: its workload; tasks are numbered as there.
        now_ms, places: see Replanner.revise.
        latest_ends: of the run's steps.
        catalogue, index: of the workload.
        takes: d_i, on the quickest type.
        ends: of the tasks that stand.
        earliest, latest: E_i, L_i.
        queue: the waiting steps by planned start, none before a parent.
    """

    rest: Rest
    now_ms: int
    places: Mapping[str, Place]
    latest_ends: LatestEnds
    catalogue: Catalogue = field(init=False)
    index: Mapping[str, int] = field(init=False)
    takes: list[int] = field(init=False)
    ends: dict[int, int] = field(init=False)
    earliest: tuple[int, ...] = field(init=False)
    latest: tuple[int, ...] = field(init=False)
    queue: list[int] = field(init=False)

    def __post_init__(self) -> None:
        workload = self.rest.workload
        self.catalogue, self.index = Catalogue(workload), workload.index
        self.takes = [max(1, self.catalogue.fastest(i)) for i in range(len(workload.tasks))]
        self.ends = {self.index[s[0]]: s[2] for cu in self.rest.held for s in cu.stays}
        windows = self.latest_ends.at(self.now_ms, workload, self.takes, self.ends)
        self.earliest, self.latest = windows.earliest, windows.latest
        planned: dict[int, int] = {}
        for i in workload.order:
            if i not in self.ends:
                before = (planned[p] for p in workload.parents[i] if p in planned)
                planned[i] = max([self.places[workload.tasks[i].task_id].start_ms, *before])
        position = {i: k for k, i in enumerate(workload.order)}
        self.queue = sorted(planned, key=lambda i: (planned[i], position[i]))

    @property
    def is_running(self) -> bool:
        """Whether anything runs, whose end may show what is not needed."""
        return any(end > self.now_ms for end in self.ends.values())

    def starts(self) -> list[Packing]:
        """Returns the schedules that are searched from, with their windows."""
        stands = self._draft(WHENEVER).packing
        slip = self.slip_ms(stands)
        self._bound(stands, 0)
        found = [stands]
        for share in SHARES if slip else ():
            packing = self._draft(round(share * slip)).packing
            self._bound(packing, round(share * slip))
            found.append(packing)
        return found

    def slip_ms(self, packing: Packing) -> int:
        """Returns the largest delay of a waiting step beyond its L_i; 0 where there is none."""
        return max([0, *(_stay(packing, i).end_ms - self.latest[i] for i in self.queue)])

    def slack_ms(self, packing: Packing, bundle: Bundle, stay: Stay) -> int:
        """Returns how much later a step of a CU could end, if all steps of that do; below 0 where
        it is late."""
        children = self.rest.workload.children[stay.task]
        own = {each.task for each in bundle.stays}
        starts = (_stay(packing, c).start_ms for c in children if c not in own)
        return min([self.latest[stay.task], *starts]) - stay.end_ms

    def places_of(self, packing: Packing) -> dict[str, Place]:
        """Returns the waiting steps' places. A CU that is not had keeps the name that most of its
        steps had before, so that a step moves only where its CU is another one."""
        standing, tasks = self.rest.standing, self.rest.workload.tasks
        names = {
            packing.where[self.index[stay[0]]]: cu.cu_id
            for cu in self.rest.held
            for stay in cu.stays
        }
        taken = {cu.cu_id for cu in self.rest.held}
        waiting = {
            key: [tasks[stay.task].task_id for stay in bundle.stays if stay.task >= standing]
            for key, bundle in packing.bundles.items()
        }
        for key in sorted(waiting, key=lambda key: (-len(waiting[key]), key)):
            if key not in names:
                votes = Counter(self.places[name].cu_id for name in waiting[key])
                free = [name for name in votes if name not in taken]
                names[key] = max(free, key=lambda n: (votes[n], n), default="") or _unused(taken)
                taken.add(names[key])
        found = {}
        for key, steps in waiting.items():
            machine = self.catalogue.machines[packing.bundles[key].machine].name
            for name in steps:
                start_ms = _stay(packing, self.index[name]).start_ms
                found[name] = Place(cu_id=names[key], machine=machine, start_ms=start_ms)
        return found

    def _draft(self, allowance_ms: int) -> Draft:
        """Returns each step at its place, or, where it would end later than its L_i and so much,
        where the bill grows least."""
        kinds = {machine.name: k for k, machine in enumerate(self.catalogue.machines)}
        named = {self.index[name]: place for name, place in self.places.items()}
        draft = Draft(
            packing=nothing_placed(self.catalogue, self.takes),
            now_ms=self.now_ms,
            ends=dict(self.ends),
            homes={i: (place.cu_id, kinds[place.machine]) for i, place in named.items()},
            starts={i: place.start_ms for i, place in named.items()},
        )
        for cu in self.rest.held:
            draft.hold(cu, kinds[cu.machine])
        for i in self.queue:
            draft.place(i, self.earliest[i], self.latest[i] + allowance_ms, is_bound=True)
        return draft

    def _bound(self, packing: Packing, allowance_ms: int) -> None:
        """Writes the windows of the search: what is there may stay."""
        workload, ends = (
            self.rest.workload,
            [_stay(packing, i).end_ms for i in range(len(self.takes))],
        )
        latest = list(ends)
        for i in reversed(workload.order):
            if i not in self.ends:
                later = (latest[c] - self.takes[c] for c in workload.children[i])
                latest[i] = max(ends[i], min([self.latest[i] + allowance_ms, *later]))
        packing.windows = Windows(earliest=self.earliest, latest=tuple(latest))


def _postpone(packing: Packing, left: _Left) -> None:
    """Has each CU that is to be bought start later, the last ones first: a step of another one may
    wait for theirs."""
    for key in sorted(packing.bundles, key=lambda key: -packing.bundles[key].first_ms):
        bundle = packing.bundles[key]
        if min(stay.task for stay in bundle.stays) >= left.rest.standing:
            wait = int(
                POSTPONED * min(left.slack_ms(packing, bundle, stay) for stay in bundle.stays)
            )
            if wait > 0:
                stays = [Stay(s.start_ms + wait, s.end_ms + wait, s.task) for s in bundle.stays]
                packing.set(key, _as_it_is(packing.catalogue, bundle, stays))


def _start_now(packing: Packing, now_ms: int, ready: Sequence[int]) -> None:
    """Moves what is ready to now where a CU is had for as long anyway, beside all that is planned
    there: its own CU first."""
    for i in sorted(ready, key=lambda i: (_stay(packing, i), i)):
        own = packing.where[i]
        if _stay(packing, i).start_ms > now_ms:
            for key in [own, *(key for key in sorted(packing.bundles) if key != own)]:
                joined = _joined_now(packing, key, i, now_ms)
                if joined is not None:
                    packing.remove([i])
                    packing.set(key, joined)
                    break


def _joined_now(packing: Packing, key: int, i: int, now_ms: int) -> Bundle | None:
    """Returns a CU with a step from now on; None where that has no room or is had for longer."""
    catalogue, bundle = packing.catalogue, packing.bundles[key]
    size, load = catalogue.sizes[bundle.machine], catalogue.loads[i]
    room = (size[0] - load[0], size[1] - load[1], size[2] - load[2])
    takes = catalogue.machines[bundle.machine].duration_ms(catalogue.workload.tasks[i])
    others = without(catalogue, bundle, {i}) if key == packing.where[i] else bundle
    is_open = bundle.first_ms <= now_ms and now_ms + takes <= bundle.last_ms
    if (
        others is None
        or min(room) < 0
        or not is_open
        or not catalogue.masks[i] >> bundle.machine & 1
    ):
        return None
    if first_fit(others, now_ms, now_ms, takes, room) is None:
        return None
    return _as_it_is(catalogue, bundle, [*others.stays, Stay(now_ms, now_ms + takes, i)])


def _as_it_is(catalogue: Catalogue, bundle: Bundle, stays: Sequence[Stay]) -> Bundle:
    """Returns other stays on a CU of the same type, which holds them."""
    found = make(catalogue, stays, 1 << bundle.machine, bundle.machine)
    assert found is not None
    return found


def _stay(packing: Packing, i: int) -> Stay:
    stay = packing.stays[i]
    assert stay is not None  # all are placed
    return stay


def _unused(taken: Collection[str]) -> str:
    """Returns a name that no CU has."""
    return next(name for k in count(1) if (name := f"planned anew#{k}") not in taken)
