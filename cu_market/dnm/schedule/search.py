"""Large-neighbourhood search: takes some CUs or a slice of time away and puts it back better.

Each round takes tasks off their CUs (some CUs that stand near each other in time, everything that
runs in a slice of time, or a path of the graph), inserts them again in a drawn order, and keeps the
outcome if it is not much dearer than the best so far; how much is lowered to nothing on the way
(record-to-record travel: Dueck, "New optimization heuristics", 1993; the neighbourhoods: Shaw,
"Using constraint programming and local search methods to solve vehicle routing problems", 1998).

Draws come from a fixed seed, so equal input gives an equal schedule whenever the clock did not cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cu_market.dnm.schedule.bundle import Bundle, Catalogue, make, peak_of
from cu_market.dnm.schedule.packing import Packing
from cu_market.dnm.schedule.reinsertion import reinsert

MOST_REMOVED = 20
DEVIATION = 0.004
"""A round may be this share dearer than the best at the start of the search."""


BLINKS = (0, 0, 20, 20, 100, 300)
"""In how many of 1000 cases insertion does not look at a CU; one is drawn a round."""

FEW_TASKS = 12
FEW_DEVIATION = 0.5
"""Up to so many, a round may be that much dearer, and every CU is kept for recombination."""


class Draws:
    """A sequence of whole numbers from a seed: xorshift64 (Marsaglia, 2003).

    The room knows no randomness: an equal seed gives equal draws on every machine.
    """

    def __init__(self, seed: int) -> None:
        self._state = (seed * 0x9E3779B97F4A7C15 + 0x1234567) % 2**64 or 1

    def below(self, limit: int) -> int:
        """Returns a whole number from 0 to limit - 1."""
        x = self._state
        x ^= x << 13 & 0xFFFFFFFFFFFFFFFF
        x ^= x >> 7
        x ^= x << 17 & 0xFFFFFFFFFFFFFFFF
        self._state = x
        return (x >> 11) % limit

    def ratio(self) -> float:
        """Returns a number from 0 to below 1."""
        return self.below(2**40) / 2**40


@dataclass(slots=True)
class Pool:
    """CUs that good schedules had, for recombination.

    Attributes:
        bundles: by the stays they hold, in the order they were first seen.
        most: oldest are dropped beyond so many.
    """

    most: int = 4000
    bundles: dict[tuple[object, ...], Bundle] = field(default_factory=dict)

    def add(self, packing: Packing) -> None:
        """Keeps the CUs of a schedule."""
        for bundle in packing.bundles.values():
            self.bundles.pop(bundle.stays, None)
            self.bundles[bundle.stays] = bundle
        while len(self.bundles) > self.most:
            self.bundles.pop(next(iter(self.bundles)))


@dataclass(slots=True)
class Outcome:
    """What a search found.

    Attributes:
        best: the cheapest schedule.
        rounds: done.
        is_cut: the clock ended it.
    """

    best: Packing
    rounds: int = 0
    is_cut: bool = False


def search(
    start: Packing,
    *,
    rounds: int,
    is_over: Callable[[], bool],
    seed: int = 1,
    pool: Pool | None = None,
    deviation: float = DEVIATION,
) -> Outcome:
    """Returns the cheapest schedule of so many rounds.

    Args:
        start: a complete schedule; is not changed.
        rounds: work limit.
        is_over: whether the clock ends the search.
        seed: of the draws.
        pool: takes the CUs of every schedule that is kept.
        deviation: see DEVIATION.
    """
    draws = Draws(seed)
    current, best = start.copy(), start
    cost = best_cost = start.cost
    if len(start.where) <= FEW_TASKS:
        deviation = FEW_DEVIATION
    if len(start.catalogue.loads) < 2:
        return Outcome(best=best)
    for done in range(rounds):
        if is_over():
            return Outcome(best=best, rounds=done, is_cut=True)
        trial = _round(current, draws)
        if trial is None:
            continue
        found = trial.cost
        if pool is not None and len(trial.where) <= FEW_TASKS:
            pool.add(trial)
        allowed = best_cost * (1 + deviation * (1 - done / rounds))
        if found <= cost or found < allowed:
            current, cost = trial, found
            if pool is not None and found < best_cost * 1.002:
                pool.add(trial)
            if found < best_cost:
                best, best_cost = trial, found
        elif cost > allowed:
            current, cost = best.copy(), best_cost
    return Outcome(best=best, rounds=rounds)


def _round(current: Packing, draws: Draws) -> Packing | None:
    """Returns the schedule after one removal and reinsertion, or None where that failed."""
    removed = _choose(current, draws)
    trial = current.copy()
    trial.remove(removed)
    rank = _order(current, removed, draws)
    manner = draws.below(4)
    late = [i for i in removed if manner == 1 or (manner == 2 and draws.below(2))]
    share = BLINKS[draws.below(len(BLINKS))]
    is_blind = (lambda: draws.below(1000) < share) if share else None
    if not reinsert(trial, removed, rank, late=late, is_blind=is_blind):
        return None
    split_idle(trial)
    return trial


def _choose(current: Packing, draws: Draws) -> list[int]:
    manner = draws.below(8)
    if manner < 4:
        return _near_bundles(current, draws, 2 + draws.below(2))
    if manner < 6:
        return _slice(current, draws)
    if manner < 7:
        return _relatives(current, draws)
    return _scattered(current, draws)


def _near_bundles(current: Packing, draws: Draws, count: int) -> list[int]:
    """The tasks of some CUs: a drawn one, and those nearest to it in time with some noise.

    Of too many, those around one moment, so that all these CUs have room there.
    """
    keys = list(current.bundles)
    first = current.bundles[keys[draws.below(len(keys))]]

    def distance(key: int) -> float:
        other = current.bundles[key]
        gap = max(0, other.first_ms - first.last_ms, first.first_ms - other.last_ms)
        apart = abs(other.first_ms - first.first_ms) + abs(other.last_ms - first.last_ms)
        return (gap + apart) * (0.2 + draws.ratio())

    ranked = sorted((distance(key), key) for key in keys)
    found = [stay for _, key in ranked[:count] for stay in current.bundles[key].stays]
    if len(found) > MOST_REMOVED:
        middle = found[draws.below(len(found))].start_ms
        found.sort(key=lambda stay: (abs(stay.start_ms - middle), stay.task))
    return [stay.task for stay in found[:MOST_REMOVED]]


def _slice(current: Packing, draws: Draws) -> list[int]:
    """What runs in a slice of time, as many as may be removed."""
    stays = sorted(stay for stay in current.stays if stay is not None)
    begin = draws.below(len(stays))
    count = min(4 + draws.below(MOST_REMOVED // 2), len(stays))
    return [stay.task for stay in stays[begin : begin + count]]


def _relatives(current: Packing, draws: Draws) -> list[int]:
    """A task and those around it in the graph."""
    workload = current.catalogue.workload
    found = [draws.below(len(workload.tasks))]
    for i in found:  # grows while it is walked
        near = [*workload.parents[i], *workload.children[i]]
        for j in near:
            if len(found) < MOST_REMOVED // 2 and j not in found and draws.below(2):
                found.append(j)
    return found


def _scattered(current: Packing, draws: Draws) -> list[int]:
    count = len(current.stays)
    many = min(count, 3 + draws.below(MOST_REMOVED // 3))
    return sorted({draws.below(count) for _ in range(many)})


def _order(current: Packing, removed: list[int], draws: Draws) -> dict[int, float] | None:
    """Returns an order of insertion: as they stood, by latest start, or by size, with noise."""
    manner = draws.below(4)
    if manner == 0:
        return None
    catalogue, horizon = current.catalogue, max(1, current.catalogue.workload.deadline_ms)
    noise = draws.ratio() * 0.3
    rank: dict[int, float] = {}
    for i in removed:
        stay = current.stays[i]
        if manner == 1:
            value = current.windows.latest[i] - current.shortest[i]
        elif manner == 2 and stay is not None:
            value = stay.start_ms
        else:
            value = -catalogue.loads[i][0] * current.shortest[i] // 1000
        rank[i] = value + noise * horizon * draws.ratio()
    return rank


def split_idle(packing: Packing) -> None:
    """Gives up a CU over a time in which nothing runs where starting another is no dearer."""
    for key in list(packing.bundles):
        old = packing.bundles[key]
        end = _worthless_gap(packing.catalogue, old)
        if end is None:
            continue
        left = make(packing.catalogue, [s for s in old.stays if s.start_ms < end], old.mask)
        right = make(packing.catalogue, [s for s in old.stays if s.start_ms >= end], old.mask)
        assert left is not None  # what held more holds less
        assert right is not None
        packing.set(key, left)
        packing.set(-1, right)  # what is left of it is looked at in a later round


def _worthless_gap(catalogue: Catalogue, bundle: Bundle) -> int | None:
    """Returns where the first time without a task begins over which to give the CU up."""
    times, used = bundle.times, bundle.used
    for k in range(len(times) - 1):
        if used[k] == (0, 0, 0):
            before = catalogue.cheapest(peak_of(used[:k]), bundle.mask, times[k] - times[0])
            after = catalogue.cheapest(
                peak_of(used[k + 1 :]), bundle.mask, times[-1] - times[k + 1]
            )
            if before and after and before[0] + after[0] <= bundle.cost:
                return times[k]
    return None
