"""A program that has changed is the program that it would have been from the start."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cu_market.dnm.programs.growing import Entries, Growing, Rebuilt
from cu_market.dnm.programs.linear import LinearProgram, LinearRow
from cu_market.dnm.programs.linear_program import LiveProgram, solve_linear
from cu_market.dnm.programs.solve import InProcessSolver

LIMIT_SECONDS = 600.0


@dataclass(frozen=True)
class Grown:
    """A matrix of which the first columns and rows are there from the start."""

    costs: list[float]
    uppers: list[float]
    amounts: np.ndarray  # (rows, columns)
    first_columns: int
    first_rows: int

    def program(self, columns: int, rows: int) -> LinearProgram:
        return LinearProgram(
            costs=tuple(self.costs[:columns]),
            uppers=(1.0,) * columns,
            rows=tuple(self.row(r, columns) for r in range(rows)),
        )

    def row(self, r: int, columns: int) -> LinearRow:
        members = np.flatnonzero(self.amounts[r, :columns])
        return LinearRow(
            columns=tuple(members.tolist()),
            coefficients=tuple(self.amounts[r, members].tolist()),
            upper=self.uppers[r],
        )


@st.composite
def grown(draw: st.DrawFn) -> Grown:
    columns, rows = draw(st.integers(2, 6)), draw(st.integers(2, 5))
    cells = st.lists(st.integers(0, 3), min_size=columns * rows, max_size=columns * rows)
    return Grown(
        costs=[
            float(c) for c in draw(st.lists(st.integers(-9, 9), min_size=columns, max_size=columns))
        ],
        uppers=[float(u) for u in draw(st.lists(st.integers(0, 6), min_size=rows, max_size=rows))],
        amounts=np.array(draw(cells), dtype=float).reshape(rows, columns),
        first_columns=draw(st.integers(1, columns)),
        first_rows=draw(st.integers(1, rows)),
    )


def entries(matrix: np.ndarray) -> Entries:
    """Returns the nonzeros of a matrix's rows."""
    found = [np.flatnonzero(row) for row in matrix]
    return Entries.of([(members, row[members]) for members, row in zip(found, matrix, strict=True)])


def cost(given: Grown, values: tuple[float, ...]) -> float:
    assert len(values) == len(given.costs)
    assert (given.amounts @ np.array(values) <= np.array(given.uppers) + 1e-6).all()
    return float(np.dot(given.costs, values))


def bound(given: Grown, duals: tuple[float, ...]) -> float:
    """Returns what weak duality says with these duals."""
    prices = np.minimum(0.0, np.array(duals))
    reduced = np.array(given.costs) - prices @ given.amounts
    return float(np.minimum(reduced, 0).sum() + prices @ np.array(given.uppers))


@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "rebuilt"])
@settings(max_examples=150)
@given(made=grown())
def test_rows_and_columns_that_join_bind_as_those_that_were_there(made: Grown, keeps: bool) -> None:
    columns, rows = len(made.costs), len(made.uppers)
    first = made.program(made.first_columns, made.first_rows)
    program: Growing = LiveProgram(first) if keeps else Rebuilt(first, InProcessSolver())
    program.solve(limit_seconds=LIMIT_SECONDS)
    if made.first_rows < rows:
        added = made.amounts[made.first_rows :, : made.first_columns]
        program.add_rows(made.uppers[made.first_rows :], entries(added))
    if made.first_columns < columns:
        added = made.amounts[:, made.first_columns :].T
        program.add_columns(made.costs[made.first_columns :], 1.0, entries(added))
    found = program.solve(limit_seconds=LIMIT_SECONDS)
    whole = solve_linear(made.program(columns, rows), limit_seconds=LIMIT_SECONDS)
    assert cost(made, found.values) == pytest.approx(cost(made, whole.values), abs=1e-6)
    assert len(found.duals) == rows
    # Whatever was added last, its duals are in the order of the rows.
    assert bound(made, found.duals) == pytest.approx(cost(made, whole.values), abs=1e-5)


@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "rebuilt"])
@settings(max_examples=100)
@given(made=grown(), draws=st.data())
def test_rows_that_leave_bind_no_more_and_the_others_as_before(
    made: Grown, draws: st.DataObject, keeps: bool
) -> None:
    columns, rows = len(made.costs), len(made.uppers)
    first = made.program(columns, made.first_rows)
    program: Growing = LiveProgram(first) if keeps else Rebuilt(first, InProcessSolver())
    program.solve(limit_seconds=LIMIT_SECONDS)
    if made.first_rows < rows:
        program.add_rows(made.uppers[made.first_rows :], entries(made.amounts[made.first_rows :]))
    gone = draws.draw(st.sets(st.integers(0, rows - 1)))
    program.remove_rows(sorted(gone))
    kept = [r for r in range(rows) if r not in gone]
    left = Grown(
        costs=made.costs,
        uppers=[made.uppers[r] for r in kept],
        amounts=made.amounts[kept],
        first_columns=columns,
        first_rows=len(kept),
    )
    found = program.solve(limit_seconds=LIMIT_SECONDS)
    whole = solve_linear(left.program(columns, len(kept)), limit_seconds=LIMIT_SECONDS)
    least = cost(left, whole.values)
    assert cost(left, found.values) == pytest.approx(least, abs=1e-6)
    assert len(found.duals) == len(kept)
    assert bound(left, found.duals) == pytest.approx(least, abs=1e-5)
    # What joins after that has the next number.
    added = np.ones((1, columns))
    program.add_rows([0.0], entries(added))
    none = program.solve(limit_seconds=LIMIT_SECONDS)
    assert cost(left, none.values) == pytest.approx(0, abs=1e-6)
    assert len(none.duals) == len(kept) + 1
