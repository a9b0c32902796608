"""The search: rounds until their number or the clock ends them, and what they have seen."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from cu_market.dnm.compiled.draws import draws_from
from cu_market.dnm.schedule.bundle import Bundle, Catalogue, Stay
from cu_market.dnm.schedule.packing import Packing, best_spot, empty
from cu_market.dnm.schedule.search.arrays import (
    Log,
    bundle_of,
    log_for,
    members_of,
    no_state,
    packing_of,
    problem_of,
    state_of,
    work_for,
)
from cu_market.dnm.schedule.search.rounds import run_rounds
from cu_market.dnm.schedule.workload import MachineType, Task, Workload

DEVIATION = 0.004
"""A round may be this share dearer than the best at the start of the search."""

WIDEST = 40
"""Tasks that a round takes off at most."""

NEAR_BEST = 0.002
"""CUs of schedules that are at most this share dearer than the best are kept for recombination."""

FEW_TASKS = 12
FEW_DEVIATION = 0.5
"""Up to so many, a round may be that much dearer, and every CU is kept for recombination."""

AT_ONCE = 50_000
"""Rounds times tasks between two looks at the clock: some milliseconds."""

LOGGED = 400
"""Schedules that are remembered, of a hundred tasks or fewer; of more tasks fewer."""


@dataclass(slots=True)
class Pool:
    """CUs that good schedules had, for recombination.

    Attributes:
        most: oldest are dropped beyond so many.
        bundles: by the stays they hold, in the order they were last seen.
    """

    most: int = 4000
    bundles: dict[tuple[object, ...], Bundle] = field(default_factory=dict)

    def add(self, bundle: Bundle) -> None:
        """Keeps a CU."""
        self.bundles.pop(bundle.stays, None)
        self.bundles[bundle.stays] = bundle
        if len(self.bundles) > self.most:
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
    widest: int = WIDEST,
    pool: Pool | None = None,
    deviation: float = DEVIATION,
    fixed: Collection[int] = (),
) -> Outcome:
    """Returns the cheapest schedule of so many rounds.

    Args:
        start: a complete schedule; is not changed.
        rounds: work limit.
        is_over: whether the clock ends the search.
        seed: of the draws.
        widest: tasks that a round takes off at most.
        pool: takes the CUs of the last good schedules.
        deviation: see DEVIATION.
        fixed: tasks that stay where they stand.
    """
    count = len(start.where)
    if len(start.catalogue.loads) < 2:
        return Outcome(best=start)
    near_best = NEAR_BEST
    if count <= FEW_TASKS:
        deviation = near_best = FEW_DEVIATION
    problem, current = problem_of(start, fixed), state_of(start)
    best, trial, work = no_state(count), no_state(count), work_for(count)
    log, draws = log_for(count, max(1, min(LOGGED, 100 * LOGGED // count))), draws_from(seed)
    done, at_once = 0, max(1, AT_ONCE // count)
    while done < rounds and (done == 0 or not is_over()):
        upto = min(rounds, done + at_once)
        run_rounds(
            problem,
            current,
            trial,
            best,
            work,
            log,
            draws,
            widest,
            done,
            upto,
            rounds,
            deviation,
            near_best,
        )
        done = upto
    if pool is not None:
        _keep(start, log, pool)
    return Outcome(best=packing_of(start, best), rounds=done, is_cut=done < rounds)


def _keep(packing: Packing, log: Log, pool: Pool) -> None:
    """Puts the CUs of the logged schedules into the pool, those of the last one last."""
    written, size = int(log.written[0]), log.cus.shape[0]
    known: dict[tuple[int, ...], Bundle] = {}
    for number in range(max(0, written - size), written):
        entry = number % size
        numbers, starts = log.cus[entry].tolist(), log.starts[entry].tolist()
        kinds = log.kinds[entry].tolist()
        for tasks in members_of(numbers).values():
            key = (kinds[tasks[0]], *tasks, *(starts[i] for i in tasks))
            if key not in known:
                known[key] = _bundle_of(packing.catalogue, tasks, starts, kinds[tasks[0]])
            pool.add(known[key])


def _bundle_of(
    catalogue: Catalogue, tasks: Sequence[int], starts: Sequence[int], kind: int
) -> Bundle:
    """Returns a CU of some tasks, which take as long as they do on types of this one's speed."""
    mask = next(v for v in catalogue.speeds if v >> kind & 1)
    takes = [catalogue.duration(i, mask & catalogue.masks[i]) for i in tasks]
    stays = [Stay(starts[i], starts[i] + d, i) for i, d in zip(tasks, takes, strict=True)]
    return bundle_of(catalogue, stays, kind)


def warm() -> None:
    """Compiles the rounds, or reads them from disk, so that no plan's seconds go into that."""
    tasks = tuple(Task(task_id=name, duration_ms=1) for name in "ab")
    machines = (MachineType(name="m", cpu_millis=1000, memory_bytes=0, price_microusd_per_hour=1),)
    packing = empty(Catalogue(Workload(tasks=tasks, machines=machines, deadline_ms=2)))
    for i in range(len(tasks)):
        spot = best_spot(packing, i, 0, 2)
        assert spot is not None
        packing.insert(spot)
    search(packing, rounds=1, is_over=lambda: False)
