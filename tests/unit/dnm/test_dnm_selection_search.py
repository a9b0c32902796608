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
from cu_market.domain.units import lease_cost_microusd

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
    program = searching.Program(uses, uses.lay_out(selection.costs < INFEASIBLE))
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
    monkeypatch.setattr(searching, "MOST_PROGRAM_PAIRS", 300)
    found = searched(selection, solver)
    [_, whole] = solver.asked
    assert 300 <= len(whole.integers) <= 300 + 200  # what is chosen is among them in any case
    assert holds(selection, found)


def test_a_program_of_too_many_entries_is_asked_of_fewer_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    selection, every = contended(), Stops(100)
    searched(selection, every)
    entries = sum(len(row.columns) for row in every.asked[-1].rows[200:])
    monkeypatch.setattr(searching, "MOST_PROGRAM_ENTRIES", entries // 2)
    solver = Stops(100)
    found = searched(selection, solver)
    [_, whole] = solver.asked
    assert 0 < sum(len(row.columns) for row in whole.rows[200:]) <= entries // 2
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
    assert 13 <= next(looks) <= 15  # nothing is begun once there is no time


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


def test_a_solver_is_never_asked_without_time() -> None:
    selection, asked = contended(), []

    class Asked(Stops):
        def solve_linear(
            self, program: LinearProgram, *, limit_seconds: float, gap: float = 0.0
        ) -> LinearAnswer:
            asked.append(limit_seconds)
            return super().solve_linear(program, limit_seconds=limit_seconds, gap=gap)

    everything = count()
    search(selection, None, gap=EXACT, left=lambda: 1e9 - next(everything))
    looks = next(everything)
    cut = []
    for more in range(4):
        times = count()
        found = search(
            selection,
            Asked(100),
            gap=EXACT,
            left=lambda times=times, more=more: looks + more - next(times),  # type: ignore[misc]
        )
        cut.append(found.is_cut)
    assert any(cut)
    assert asked
    assert min(asked) > 0


def test_many_small_requests_in_a_large_room_are_priced() -> None:
    # Each holds some ten-thousandth of it, in bytes: a price that is the same for all decides.
    memory = 2**40
    shared = replace(
        offers("shared", 0, cores=4000, gib=1024),
        rates=Rates(core_microusd_per_hour=0, gb_microusd_per_hour=1000),
    )
    alone = offers("alone", 200_000, cores=1, gib=4, bid={"quantity": 4000})
    asked = [asks(f"r{n:04d}") for n in range(1000)]
    asked = [replace(r, needs=replace(r.needs, memory_bytes=memory // 750 - 12_345)) for r in asked]
    selection = tabulate(asked, [shared, alone], {"cap-shared": shared.profile.size})
    found = search(selection, None, gap=0.002, left=lambda: 600.0)
    assert found.is_proven(0.002)
    assert [selection.bids[b].bid_id for b in found.choice].count("shared") == 750


def test_what_is_scarce_and_dear_is_priced_up_to_the_penalty() -> None:
    hour = 1_000_000_000  # 1,000 USD an hour, for ten hours
    bids = [offers("gpu", hour, bid={"quantity": 1})]
    requests = [asks(name, duration_ms=10 * HOUR) for name in "abc"]
    selection = tabulate(requests, bids, {})
    found = search(selection, None, gap=0.001, left=lambda: 600.0)
    assert found.cost == selection.costs[0, 0] + 2 * selection.penalties[0]
    assert found.is_proven(0.001)
    assert found.bound <= found.cost


def test_a_thousand_hours_at_ten_thousand_dollars_are_counted() -> None:
    price, long = 10_000_000_000, 1000 * HOUR + 1
    request = asks("r", duration_ms=long)
    bid = offers("b", price)
    selection = tabulate([request], [bid], {})
    assert selection.costs[0, 0] == lease_cost_microusd(price, long)
