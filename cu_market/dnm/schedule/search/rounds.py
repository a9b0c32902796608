"""Rounds of removal and reinsertion: compiled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cu_market.dnm.compiled import Array, compiled, kept_on_disk, sources
from cu_market.dnm.schedule.search.arrays import Log, Problem, State, Work
from cu_market.dnm.schedule.search.idle import split_idle
from cu_market.dnm.schedule.search.insertion import NOWHERE
from cu_market.dnm.schedule.search.loads import settle
from cu_market.dnm.schedule.search.neighbourhoods import choose, leave_fixed, rank_removed
from cu_market.dnm.schedule.search.reinsertion import (
    put_back,
    queue_removed,
    sort_removed,
    take_off_removed,
    write_windows,
)


@compiled
def one_round(problem: Problem, state: State, work: Work, widest: int, draws: Array) -> bool:
    """Takes tasks off and puts them back, in place; returns whether every one found a place."""
    count = leave_fixed(problem, work, choose(problem, state, work, widest, draws))
    if count == 0:
        return False
    is_ranked = rank_removed(problem, state, work, count, draws)
    changed = take_off_removed(problem, state, work, count)
    sort_removed(problem, work, count)
    write_windows(problem, state, work, count)
    queue_removed(problem, work, count, is_ranked)
    changed = put_back(problem, state, work, count, changed, draws)
    if changed == NOWHERE:
        return False
    for k in range(changed):
        cu = work.touched[k]
        while cu >= 0:
            cu = split_idle(problem, state, work, cu)
    return True


@compiled
def copy_state(source: State, target: State) -> None:
    """Makes the target equal to the source."""
    for i in range(source.stays.shape[0]):
        target.stays[i] = source.stays[i]
    target.most[0] = source.most[0]
    for cu in range(source.most[0]):
        target.cus[cu] = source.cus[cu]


@compiled
def cost_of_all(state: State) -> int:
    """Returns the whole bill."""
    total = 0
    for cu in range(state.most[0]):
        if state.cus[cu].head >= 0:
            total += state.cus[cu].cost
    return total


@compiled
def write_log(log: Log, state: State) -> None:
    """Writes a schedule over the oldest entry."""
    entry = log.written[0] % log.cus.shape[0]
    log.written[0] += 1
    for i in range(state.stays.shape[0]):
        stay = state.stays[i]
        log.cus[entry, i] = stay.cu
        log.starts[entry, i] = stay.start
        log.kinds[entry, i] = state.cus[stay.cu].kind


def _compiled_rounds(texts: str) -> Callable[..., None]:
    """Returns the rounds; kept on disk by what they close over, the texts of all that they call."""

    @kept_on_disk
    def run(
        problem: Problem,
        current: State,
        trial: State,
        best: State,
        work: Work,
        log: Log,
        draws: Any,
        widest: int,
        done: int,
        upto: int,
        rounds: int,
        deviation: float,
        near_best: float,
    ) -> None:
        """Does rounds from done to upto of so many.

        Args:
            problem: what is given.
            current, best: where the search stands; are changed.
            trial: room for a schedule.
            work: room to work in.
            log: takes the good schedules.
            draws: state of the sequence.
            widest: tasks that a round takes off at most.
            done, upto, rounds: see above.
            deviation: a round may be this share dearer than the best at first, and none at last.
            near_best: schedules that are at most this share dearer than the best are logged.
        """
        assert len(texts) > 0
        if done == 0:
            for cu in range(current.most[0]):
                settle(problem, current, work, cu, current.cus[cu].kind)
            copy_state(current, best)
        cost, best_cost = cost_of_all(current), cost_of_all(best)
        for number in range(done, upto):
            copy_state(current, trial)
            if not one_round(problem, trial, work, widest, draws):
                continue
            found = cost_of_all(trial)
            allowed = best_cost * (1 + deviation * (1 - number / rounds))
            if found <= cost or found < allowed:
                is_new = found != cost
                copy_state(trial, current)
                cost = found
                if is_new and found < best_cost * (1 + near_best):
                    write_log(log, trial)
                if found < best_cost:
                    copy_state(trial, best)
                    best_cost = found
            elif cost > allowed:
                copy_state(best, current)
                cost = best_cost

    return run


run_rounds = _compiled_rounds(sources(Path(__file__).parents[1]))
