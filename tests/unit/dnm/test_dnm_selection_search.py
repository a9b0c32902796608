"""The search for a selection: where it ends, and what it takes of a solver that stops half way."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from dnm_records import HOUR, asks, offers

from cu_market.dnm.programs.linear import LinearAnswer, LinearProgram
from cu_market.dnm.programs.solve import InProcessSolver
from cu_market.dnm.selection import search as searching
from cu_market.dnm.selection.arrays import INFEASIBLE, UNSERVED, Selection, tabulate
from cu_market.dnm.selection.found import Found, uncontended
from cu_market.dnm.selection.multipliers import usage
from cu_market.dnm.selection.search import search
from cu_market.domain.bid import Rates

STOPPED = LinearAnswer(is_cut=True)
EXACT = 1e-6


def contended() -> Selection:
    """200 requests over an hour for 30 bids, a third of them cut to size; the cheapest cannot hold
    all of them, nor half of one."""
    draws = random.Random(1)
    requests = [
        asks(
            f"r{n:03d}",
            cores=draws.choice([1, 2, 4]),
            duration_ms=draws.randrange(HOUR // 60, HOUR // 4),
            earliest_start_ms=draws.randrange(0, HOUR, HOUR // 60),
        )
        for n in range(200)
    ]
    bids = [
        offers(
            f"b{n:02d}",
            draws.randrange(10_000, 100_000),
            cores=draws.choice([2, 4, 8]),
            bid={"quantity": 4},
        )
        for n in range(20)
    ]
    cut = [
        replace(
            offers(f"cut{n:02d}", 0, cores=7, gib=64),
            rates=Rates(
                core_microusd_per_hour=draws.randrange(3_000, 30_000), gb_microusd_per_hour=0
            ),
        )
        for n in range(10)
    ]
    return tabulate(
        requests, [*bids, *cut], {bid.profile.capacity_id: bid.profile.size for bid in cut}
    )


class Stops:
    """Answers so many programs, and then says no more.

    Args:
        after: programs answered.
        last: what it says then.
    """

    def __init__(self, after: int, last: LinearAnswer = STOPPED) -> None:
        self._left, self._last = after, last
        self.asked: list[LinearProgram] = []

    def solve_linear(
        self, program: LinearProgram, *, limit_seconds: float, gap: float = 0.0
    ) -> LinearAnswer:
        self.asked.append(program)
        if not self._left:
            return self._last
        self._left -= 1
        return InProcessSolver().solve_linear(program, limit_seconds=limit_seconds, gap=gap)


def searched(selection: Selection, solver: Stops | None, gap: float = EXACT) -> Found:
    return search(selection, solver, gap=gap, left=lambda: 600.0)


def holds(selection: Selection, found: Found) -> bool:
    return bool((usage(selection, found.choice) <= selection.limits).all())


def test_no_program_is_asked_where_the_relaxation_proves_enough() -> None:
    selection, solver = contended(), Stops(100)
    found = searched(selection, solver, gap=0.01)
    assert (found.solver, found.programs, solver.asked) == ("relaxation", 0, [])
    assert found.is_proven(0.01)
    assert not found.is_cut
    assert holds(selection, found)


def test_the_program_of_what_could_be_cheaper_finds_the_optimum() -> None:
    selection, solver = contended(), Stops(100)
    without = searched(selection, None)
    found = searched(selection, solver)
    assert found.programs == 2
    relaxed, whole = solver.asked
    assert not relaxed.integers
    assert len(whole.integers) < selection.costs.size / 4
    assert whole.incumbent
    assert without.bound <= found.bound <= found.cost <= without.cost
    every = InProcessSolver().solve_linear(whole_program(selection), limit_seconds=600.0)
    costs = selection.costs[selection.costs < INFEASIBLE]
    assert found.cost == int(np.rint(every.values[: len(costs)]) @ costs)
    assert holds(selection, found)


def whole_program(selection: Selection) -> LinearProgram:
    uses = searching.Uses(selection)
    program = searching.Program(uses, selection.costs < INFEASIBLE)
    return program.stated(np.full(len(selection.requests), UNSERVED), is_whole=True)


@pytest.mark.parametrize("last", [STOPPED, LinearAnswer(failure="died")])
def test_what_a_solver_said_before_it_stopped_is_used(last: LinearAnswer) -> None:
    selection = contended()
    without = searched(selection, None)
    found = searched(selection, Stops(1, last))
    assert (found.programs, found.is_cut) == (2, last.is_cut)
    assert without.bound <= found.bound <= found.cost <= without.cost
    assert holds(selection, found)


def test_without_any_answer_the_selection_stands() -> None:
    selection = contended()
    without = searched(selection, None)
    found = searched(selection, Stops(0))
    assert (found.cost, found.bound) == (without.cost, without.bound)
    assert found.is_cut
    assert not without.is_cut


def test_of_too_many_pairs_the_nearest_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    selection, solver = contended(), Stops(100)
    monkeypatch.setattr(searching, "MOST_PROGRAM_PAIRS", 150)
    found = searched(selection, solver)
    [_, whole] = solver.asked
    assert 200 <= len(whole.integers) <= 150 + 200  # what is chosen is among them in any case
    assert holds(selection, found)


def test_a_selection_is_built_where_there_is_no_time_at_all() -> None:
    selection = contended()
    found = search(selection, Stops(100), gap=EXACT, left=lambda: 0.0)
    assert (found.is_cut, found.programs) == (True, 0)
    assert found.solver == "relaxation"
    assert found.is_proven(0.02)
    assert holds(selection, found)


def test_the_clock_ends_the_search_between_looks() -> None:
    selection, looks = contended(), count()
    found = search(selection, Stops(100), gap=EXACT, left=lambda: 12.0 - next(looks))
    assert found.is_cut
    assert found.programs == 0
    assert next(looks) == 13


def test_where_everyone_has_room_at_their_cheapest_nothing_is_searched() -> None:
    bids = [offers(f"b{n:02d}", 10 + n, bid={"quantity": 100}) for n in range(30)]
    requests = [asks(f"r{n:02d}") for n in range(99)] + [asks("too large", cores=64)]
    selection = tabulate(requests, bids, {})
    found = uncontended(selection)
    assert found is not None
    assert found.choice.tolist() == [0] * 99 + [-1]
    assert found.cost == found.bound == 99 * selection.costs[0, 0]
    assert uncontended(contended()) is None


def test_nothing_is_compiled_where_nothing_is_contended_for() -> None:
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from dnm_records import asks, offers
from cu_market.dnm import plan
bids = [offers(f"b{n:02d}", 10 + n, bid={"quantity": 100}) for n in range(30)]
for quantity in (100, 1):
    bids = [offers(f"b{n:02d}", 10 + n, bid={"quantity": quantity}) for n in range(30)]
    requests = [asks(f"r{n:02d}") for n in range(99)]
    found = plan(requests, bids, {}, solver=None, limit_seconds=1.0, fixed_starts=True)
    print(len(found.awards), "numba" in sys.modules)
"""
    folder = __file__.rpartition("/")[0]
    output = subprocess.run(
        [sys.executable, "-c", code, folder], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    assert output.split() == ["99", "False", "30", "True"]
