"""Tasks that stand nowhere are put back, one after the other, each where the bill grows least.

A task's window is what its placed relatives leave: from its parents' ends to the last start from
which its children still meet their times.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from cu_market.dnm.schedule.packing import Packing, best_spot


def reinsert(
    packing: Packing,
    tasks: Sequence[int],
    rank: Mapping[int, float] | None = None,
    *,
    late: Collection[int] = (),
    is_blind: Callable[[], bool] | None = None,
) -> bool:
    """Inserts tasks one after the other; returns whether every one found a place.

    Args:
        packing: is changed, also where the answer is False.
        tasks: that stand nowhere.
        rank: order of insertion by task; by latest start where it is not given.
        late: tasks of which the latest of equally good starts is taken.
        is_blind: see best_spot; a task that finds no place so is tried again with open eyes.
    """
    position = {i: k for k, i in enumerate(packing.catalogue.workload.order)}
    missing = sorted(tasks, key=position.__getitem__)
    room = room_for(packing, missing)
    if rank is None:
        queue = sorted(missing, key=lambda i: (room[i][1] - packing.shortest[i], position[i]))
    else:
        queue = sorted(missing, key=lambda i: (rank[i], position[i]))
    relatives = packing.catalogue.workload
    for i in queue:
        earliest, latest = room[i]
        is_late = i in late
        spot = best_spot(packing, i, earliest, latest, is_late=is_late, is_blind=is_blind)
        if spot is None and is_blind is not None:
            spot = best_spot(packing, i, earliest, latest, is_late=is_late)
        if spot is None:
            return False
        packing.insert(spot)
        missing.remove(i)
        if missing and (relatives.parents[i] or relatives.children[i]):
            room = room_for(packing, missing)
    return True


def room_for(packing: Packing, missing: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Returns (earliest start, latest end) of tasks that stand nowhere, in topological order."""
    workload, shortest = packing.catalogue.workload, packing.shortest
    earliest: dict[int, int] = {}
    latest: dict[int, int] = {}
    for i in missing:
        begin = packing.windows.earliest[i]
        for p in workload.parents[i]:
            stay = packing.stays[p]
            ready = earliest[p] + shortest[p] if stay is None else stay.end_ms
            if ready > begin:
                begin = ready
        earliest[i] = begin
    for i in reversed(missing):
        end = packing.windows.latest[i]
        for c in workload.children[i]:
            stay = packing.stays[c]
            by = latest[c] - shortest[c] if stay is None else stay.start_ms
            if by < end:
                end = by
        latest[i] = end
    return {i: (earliest[i], latest[i]) for i in missing}
