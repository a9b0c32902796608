"""A joint plan while it runs: each step that has not started keeps its place, or moves in time.

Steps in the order of their planned starts: each keeps its CU where it ends there by its L_i (see
``margins``, with now as the earliest start); else it goes where the bill grows least, by the
insertion that makes plans, onto a CU that is had or a new one. L_i can always be met, on a new CU.

A revision is proposed only where it is worth it (``worth.weigh``), so that what stands is not
stirred for nothing. What is weighed is the deadline plus the largest delay beyond an L_i: what no
move could help is the same on both sides.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cu_market.dnm.renegotiation.draft import Draft, HeldCU, Place, nothing_placed
from cu_market.dnm.renegotiation.margins import TOLERANCE_RATIO, margins_ms
from cu_market.dnm.renegotiation.remaining import Spread
from cu_market.dnm.renegotiation.worth import MAX_MOVES, weigh
from cu_market.dnm.schedule.bundle import FAR, Catalogue, microusd
from cu_market.dnm.schedule.seeds import tails
from cu_market.dnm.schedule.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """What a review found.

    Attributes:
        places: of every step that has not started.
        moved: steps whose CU changes.
        stays_ms, moved_ms: the deadline plus the largest delay, as it stood and as revised.
        added_microusd: to the bill, against how it stood; negative where it saves.
    """

    places: Mapping[str, Place]
    moved: tuple[str, ...]
    stays_ms: int
    moved_ms: int
    added_microusd: int


class Review:
    """Reviews one run, again and again.

    Args:
        workload: its steps with forecast durations, machine types, deadline.
        spreads: of durations about their forecasts, by step; exact where not given.
    """

    def __init__(
        self,
        workload: Workload,
        *,
        spreads: Mapping[str, Spread] | None = None,
    ) -> None:
        self._catalogue = Catalogue(workload)
        self._kinds = {m.name: k for k, m in enumerate(self._catalogue.machines)}
        self._takes = [max(1, self._catalogue.fastest(i)) for i in range(len(workload.tasks))]
        tail = tails(workload, self._takes)
        self._after = [whole - own for whole, own in zip(tail, self._takes, strict=True)]
        self._margins = margins_ms(workload, self._takes, spreads or {})
        self._position = {i: k for k, i in enumerate(workload.order)}
        self._fresh = 0

    def revise(
        self,
        now_ms: int,
        held: Sequence[HeldCU],
        ends_ms: Mapping[str, int],
        places: Mapping[str, Place],
        moves_made: Mapping[str, int],
        *,
        must_move: Collection[str] = (),
    ) -> Revision:
        """Returns each waiting step's place from now on.

        Args:
            now_ms: after the run's start, as every other time.
            held: the CUs that are had; what they run is left alone.
            ends_ms: of every step that has started: real, or expected.
            places: where the others stand.
            moves_made: of free will, by step.
            must_move: steps whose CU is no longer to be had.
        """
        workload = self._catalogue.workload
        earliest, latest = self._windows(now_ms, ends_ms)
        bound = {workload.index[name] for name in places if name not in must_move}
        free = {i for i in bound if moves_made.get(workload.tasks[i].task_id, 0) < MAX_MOVES}
        stands = self._draft(now_ms, held, ends_ms, places)
        for i in self._queue(places):
            stands.place(i, earliest[i], FAR if i in bound else latest[i], is_bound=i in bound)
        as_it_stands = self._revision(stands, stands, places, latest)
        if as_it_stands.stays_ms <= workload.deadline_ms or not free:
            return as_it_stands
        moved = self._draft(now_ms, held, ends_ms, places)
        for i in self._queue(places):
            moved.place(
                i,
                earliest[i],
                FAR if i in bound and i not in free else latest[i],
                is_bound=i in bound,
            )
        found = self._revision(moved, stands, places, latest)
        worth = weigh(
            present_microusd=microusd(stands.packing.cost),
            moved_microusd=microusd(moved.packing.cost),
            stays_ms=found.stays_ms - now_ms,
            moved_ms=found.moved_ms - now_ms,
            latest_ms=workload.deadline_ms - now_ms,
        )
        return found if worth.is_worth_it else as_it_stands

    def _windows(self, now_ms: int, ends_ms: Mapping[str, int]) -> tuple[list[int], list[int]]:
        """Returns each step's earliest start from now on, and its L_i."""
        workload = self._catalogue.workload
        tolerance = round(TOLERANCE_RATIO * max(0, workload.deadline_ms - now_ms))
        earliest, latest = [now_ms] * len(self._takes), [0] * len(self._takes)
        ends = [0] * len(self._takes)
        for i in workload.order:
            known = ends_ms.get(workload.tasks[i].task_id)
            earliest[i] = max([now_ms, *(ends[p] for p in workload.parents[i])])
            ends[i] = earliest[i] + self._takes[i] if known is None else known
            in_time = workload.deadline_ms - self._after[i] - self._margins[i]
            latest[i] = max(earliest[i] + self._takes[i] + tolerance, in_time)
        return earliest, latest

    def _queue(self, places: Mapping[str, Place]) -> list[int]:
        """Returns the waiting steps by planned start, none before a parent."""
        workload = self._catalogue.workload
        waiting = {workload.index[name]: place.start_ms for name, place in places.items()}
        due: dict[int, int] = {}
        for i in workload.order:
            if i in waiting:
                due[i] = max([waiting[i], *(due[p] for p in workload.parents[i] if p in due)])
        return sorted(due, key=lambda i: (due[i], self._position[i]))

    def _draft(
        self,
        now_ms: int,
        held: Sequence[HeldCU],
        ends_ms: Mapping[str, int],
        places: Mapping[str, Place],
    ) -> Draft:
        draft = Draft(
            packing=nothing_placed(self._catalogue, self._takes),
            now_ms=now_ms,
            ends={self._catalogue.workload.index[name]: end for name, end in ends_ms.items()},
            homes={
                self._catalogue.workload.index[name]: (place.cu_id, self._kinds[place.machine])
                for name, place in places.items()
            },
        )
        for cu in held:
            draft.hold(cu, self._kinds[cu.machine])
        return draft

    def _revision(
        self,
        draft: Draft,
        stands: Draft,
        places: Mapping[str, Place],
        latest: Sequence[int],
    ) -> Revision:
        workload, found, moved = self._catalogue.workload, {}, []
        names = dict(draft.names)
        for i in draft.placed:
            key = draft.packing.where[i]
            if key not in names:
                self._fresh += 1
                names[key] = f"moved#{self._fresh}"
            bundle, stay = draft.packing.bundles[key], draft.packing.stays[i]
            assert stay is not None  # it was placed
            task_id = workload.tasks[i].task_id
            found[task_id] = Place(
                cu_id=names[key],
                machine=self._catalogue.machines[bundle.machine].name,
                start_ms=stay.start_ms,
            )
            if names[key] != places[task_id].cu_id:
                moved.append(task_id)
        return Revision(
            places=found,
            moved=tuple(moved),
            stays_ms=stands.finish(latest),
            moved_ms=draft.finish(latest),
            added_microusd=microusd(draft.packing.cost - stands.packing.cost),
        )
