"""Selection whose solver stops half way: what its last values say is used, and the bound stands."""

from __future__ import annotations

import random

import pytest
from dnm_records import HOUR, asks, offers

from cu_market.dnm.programs.growing import Growing, Rebuilt
from cu_market.dnm.programs.linear import LinearAnswer, LinearProgram
from cu_market.dnm.programs.solve import InProcessSolver
from cu_market.dnm.selection.arrays import Selection, tabulate
from cu_market.dnm.selection.generation import Found, select
from cu_market.dnm.selection.rounding import Holding

STOPPED = LinearAnswer(is_cut=True)


def contended() -> Selection:
    """200 requests over an hour for 30 bids; the cheapest cannot hold all of them."""
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
        for n in range(30)
    ]
    return tabulate(requests, bids, {})


class Stops:
    """Answers so many programs, and then says no more.

    Args:
        after: programs answered.
        last: what it says then.
    """

    def __init__(self, after: int, last: LinearAnswer) -> None:
        self._left, self._last = after, last

    def solve_linear(
        self, program: LinearProgram, *, limit_seconds: float, gap: float = 0.0
    ) -> LinearAnswer:
        if not self._left:
            return self._last
        self._left -= 1
        return InProcessSolver().solve_linear(program, limit_seconds=limit_seconds, gap=gap)

    def open_program(self, program: LinearProgram) -> Growing:
        return Rebuilt(program, self)


def selected(selection: Selection, solver: Stops | None) -> Found:
    opener = solver.open_program if solver else None
    return select(selection, opener, gap=0.001, left=lambda: 600.0)


@pytest.mark.parametrize("last", [STOPPED, LinearAnswer(failure="died")])
def test_the_last_values_before_the_solver_stops_are_used(last: LinearAnswer) -> None:
    selection = contended()
    without = selected(selection, None)
    found = selected(selection, Stops(1, last))
    assert found.programs == 1
    assert (found.solver, found.is_cut) == ("HiGHS", last.is_cut)
    assert found.cost < without.cost
    assert without.bound < found.bound <= found.cost
    assert Holding(selection, found.choice).free.min() >= 0
    whole = selected(selection, Stops(100, last))
    assert found.bound <= whole.bound <= whole.cost <= found.cost
    assert whole.is_proven(0.001)


def test_without_any_answer_the_construction_stands() -> None:
    selection = contended()
    without = selected(selection, None)
    found = selected(selection, Stops(0, STOPPED))
    assert (found.cost, found.bound, found.programs) == (without.cost, without.bound, 0)
    assert found.is_cut
