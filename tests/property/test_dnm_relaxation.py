"""A selection's rows, its relaxation and its moves, against what they are to be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_dnm_properties import CAPACITIES, RUNNING, asked, offered
from test_dnm_selection import Input

from cu_market.dnm.programs.linear_program import solve_linear
from cu_market.dnm.programs.solve import no_clock
from cu_market.dnm.selection.arrays import INFEASIBLE, UNSERVED, Flags, Selection, tabulate
from cu_market.dnm.selection.layout import Uses
from cu_market.dnm.selection.multipliers import bound, reduced_costs, usage
from cu_market.dnm.selection.planner import plan_selection
from cu_market.dnm.selection.program import Program
from cu_market.dnm.selection.relaxation import Relaxation
from cu_market.dnm.selection.rounding import Book, Holding, improve, placed, refine, rounded
from cu_market.dnm.surcharges import Priced
from cu_market.dnm.verify import violations

STARTS = range(0, 120_000, 10_000)
"""Of many rooms many are exceeded more than once, and rows stand for others."""

INPUTS = st.tuples(asked(14, STARTS), offered(), CAPACITIES, RUNNING)
SEEDS = st.integers(0, 2**32 - 1)


def arrays(given_input: Input) -> Selection:
    requests, bids, capacities, running = given_input
    return tabulate(requests, bids, capacities, running=running, surcharges=Priced())


def some_pairs(selection: Selection, seed: int) -> Flags:
    draws = np.random.default_rng(seed)
    found: Flags = (selection.costs < INFEASIBLE) & (draws.random(selection.costs.shape) < 0.7)
    return found


@settings(max_examples=150, deadline=None)
@given(INPUTS, SEEDS)
def test_what_keeps_to_the_rows_keeps_to_every_room_at_every_start(
    given_input: Input, seed: int
) -> None:
    selection = arrays(given_input)
    wanted = some_pairs(selection, seed)
    layout = Uses(selection).lay_out(wanted)
    assert [*zip(layout.asked, layout.hosts, strict=True)] == [*map(tuple, np.argwhere(wanted))]
    rows = {divmod(int(row), selection.limits.shape[1]) for row in layout.rows}
    draws = np.random.default_rng(seed)
    for _ in range(20):
        choice = np.array(
            [draws.choice([*np.flatnonzero(row), UNSERVED]) for row in wanted], dtype=np.int64
        )
        held = usage(selection, choice)
        over = {(int(r), int(t)) for r, t in np.argwhere(held > selection.limits)}
        assert not over or over & rows
        # What entries say is held of a row is what is held there.
        chosen = np.flatnonzero(choice[layout.asked] == layout.hosts)
        said = np.zeros(len(layout.rows), dtype=np.int64)
        for e in np.flatnonzero(np.isin(layout.pairs, chosen)):
            said[layout.first[e] : layout.behind[e]] += layout.amounts[e]
        there = held[layout.row_rooms, layout.rows % selection.limits.shape[1]]
        assert said.tolist() == there.tolist()


def optimum_of_relaxation(selection: Selection) -> float:
    everything = selection.costs < INFEASIBLE
    uses = Uses(selection)
    program = Program(uses, uses.lay_out(everything))
    nobody = np.full(len(selection.requests), UNSERVED)
    stated = program.stated(nobody, is_whole=False)
    answer = solve_linear(stated, limit_seconds=600.0)
    assert answer.values
    return float(np.dot(answer.values, stated.costs))


@settings(max_examples=80, deadline=None)
@given(INPUTS)
def test_steps_lead_to_the_optimum_of_the_relaxation(given_input: Input) -> None:
    selection = arrays(given_input)
    best = optimum_of_relaxation(selection)
    uses = Uses(selection)
    relaxation = Relaxation(uses, np.zeros(selection.costs.shape, dtype=bool))
    reduced = np.empty_like(selection.costs)
    found = 0
    for _ in range(60):
        relaxation.advance(50)
        prices = relaxation.multipliers()
        reduced_costs(selection, prices, out=reduced)
        found = max(found, bound(selection, prices, reduced))
        relaxation.join(relaxation.joining(reduced))
    assert found <= best * (1 + 1e-6) + 1
    # A pair joins that is cheaper by a micro-dollar.
    assert found >= best * 0.98 - 2 * len(selection.requests)
    shares = relaxation.shares()
    assert (shares.values >= 0).all()
    served = [shares.values[a:b].sum() for a, b in zip(shares.of, shares.of[1:], strict=False)]
    assert max(served) <= 1 + 1e-9


@settings(max_examples=100, deadline=None)
@given(INPUTS, SEEDS)
def test_pairs_that_join_change_neither_shares_nor_prices(given_input: Input, seed: int) -> None:
    selection = arrays(given_input)
    first = some_pairs(selection, seed)
    relaxation = Relaxation(Uses(selection), first)
    relaxation.advance(30)
    prices = relaxation.multipliers().sum(axis=1)
    was = relaxation.shares()
    by_pair = dict(zip(zip(*np.nonzero(first), strict=True), was.values, strict=True))
    relaxation.join((selection.costs < INFEASIBLE) & ~first)
    now = relaxation.shares()
    pairs = zip(*np.nonzero(selection.costs < INFEASIBLE), strict=True)
    for pair, value in zip(pairs, now.values, strict=True):
        assert value == by_pair.get(pair, 0.0)
    # A row may give its price to a later one that holds all that it held; none is lost.
    rounding = selection.limits.shape[1]
    assert (np.abs(relaxation.multipliers().sum(axis=1) - prices) <= rounding).all()


@settings(max_examples=150, deadline=None)
@given(INPUTS, SEEDS)
def test_selections_fit_and_moves_never_cost_more(given_input: Input, seed: int) -> None:
    selection = arrays(given_input)
    uses = Uses(selection)
    book = Book(uses)
    relaxation = Relaxation(uses, some_pairs(selection, seed))
    relaxation.advance(20)
    order = np.random.default_rng(seed).permutation(len(selection.requests))
    first = placed(book, order, selection.costs)
    has_all_that_fit(first)
    built = [
        first,
        *rounded(book, relaxation.shares(), selection.costs, 3),
    ]
    assert len(built) == 4
    for holding in built:
        costs = [holding.cost()]
        is_sound(holding)
        improve(holding)
        costs.append(holding.cost())
        is_sound(holding)
        refine(holding, selection.costs, 50, seed + 1)
        costs.append(holding.cost())
        is_sound(holding)
        assert costs == sorted(costs, reverse=True)


def is_sound(holding: Holding) -> None:
    """What is free is what was there less what is held, and enough."""
    selection = holding.book.selection
    assert (holding.free == selection.limits - usage(selection, holding.choice)).all()
    assert (holding.free >= 0).all()
    served = np.flatnonzero(holding.choice != UNSERVED)
    assert (selection.costs[served, holding.choice[served]] < INFEASIBLE).all()


def has_all_that_fit(holding: Holding) -> None:
    """Nobody who is left out has room."""
    selection = holding.book.selection
    for i in np.flatnonzero(holding.choice == UNSERVED).tolist():
        for b in np.flatnonzero(selection.costs[i] < INFEASIBLE).tolist():
            alone = holding.choice.copy()
            alone[i] = b
            assert (usage(selection, alone) > selection.limits).any()


def checked(given_input: Input) -> None:
    """The independent checker finds nothing wrong, and the bound is one of what was found."""
    requests, bids, capacities, running = given_input
    found = plan_selection(
        requests,
        bids,
        capacities,
        solver=None,
        limit_seconds=600,
        gap=0.01,
        running=running,
        surcharges=Priced(),
        clock=no_clock,
    )
    told = violations(
        requests,
        bids,
        capacities,
        found.awards,
        running=running,
        fixed_starts=True,
        surcharges=Priced(),
    )
    assert not told
    assert found.bound_microusd <= found.objective_microusd
    assert len(found.awards) + len(found.unserved) == len(requests)


@settings(max_examples=200, deadline=None)
@given(INPUTS)
def test_selections_pass_the_independent_checker(given_input: Input) -> None:
    checked(given_input)


@pytest.mark.by_hand
@pytest.mark.timeout(3600)
@settings(max_examples=10_000, deadline=None, derandomize=True, database=None)
@given(INPUTS)
def test_ten_thousand_selections_pass_the_independent_checker(given_input: Input) -> None:
    checked(given_input)
