"""The program of some pairs: each request served once or left out, and the rows that they could
exceed.

    min sum c_ib x_ib + sum M_i z_i
    sum_b x_ib + z_i = 1 for each i;  sum a_r,ib x_ib <= Q_r for each r
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cu_market.dnm.programs.linear import LinearAnswer, LinearProgram, LinearRow
from cu_market.dnm.selection.arrays import UNSERVED, Whole
from cu_market.dnm.selection.layout import Layout, Uses, expanded
from cu_market.dnm.selection.multipliers import multipliers
from cu_market.dnm.selection.relaxation import Shares


class Program:
    """A program, and what an answer to it says. Its columns are the pairs, then the left out.

    Args:
        uses: the input.
        layout: of the pairs that are columns.
    """

    def __init__(self, uses: Uses, layout: Layout) -> None:
        self._selection, self._layout = uses.selection, layout
        # Powers of two that rooms' amounts are divided by, so that solvers' tolerances fit.
        largest = self._selection.limits.max(axis=1, initial=1)
        self._units = 2.0 ** np.maximum(0, np.ceil(np.log2(np.maximum(largest, 1))) - 16)
        entries, rows = expanded(layout.first, layout.behind)
        order = np.argsort(rows, kind="stable")
        entries = entries[order]
        self._begins = np.searchsorted(rows[order], np.arange(len(layout.rows) + 1))
        self._members = layout.pairs[entries]
        self._amounts = layout.amounts[entries] / self._units[layout.rooms[entries]]

    def stated(self, choice: Whole, *, is_whole: bool) -> LinearProgram:
        """Returns the program.

        Args:
            choice: a known solution.
            is_whole: whether pairs must be whole.
        """
        s, layout = self._selection, self._layout
        count, many = len(s.requests), len(layout.asked)
        of = layout.of.tolist()
        shared = _Shared()
        rows = []
        for i in range(count):
            columns = (*range(of[i], of[i + 1]), many + i)
            rows.append(
                LinearRow(columns=columns, coefficients=(1.0,) * len(columns), lower=1.0, upper=1.0)
            )
        limits = (layout.limits / self._units[layout.row_rooms]).tolist()
        for k, limit in enumerate(limits):
            part = slice(self._begins[k], self._begins[k + 1])
            rows.append(
                LinearRow(
                    columns=tuple(map(shared, self._members[part].tolist())),
                    coefficients=tuple(map(shared, self._amounts[part].tolist())),
                    upper=limit,
                )
            )
        costs = s.costs[layout.asked, layout.hosts].astype(float).tolist()
        chosen = np.flatnonzero(choice[layout.asked] == layout.hosts).tolist()
        left_out = (many + np.flatnonzero(choice == UNSERVED)).tolist()
        return LinearProgram(
            costs=(*costs, *s.penalties.astype(float).tolist()),
            uppers=(1.0,) * (many + count),
            rows=tuple(rows),
            integers=tuple(range(many)) if is_whole else (),
            incumbent=tuple((k, 1.0) for k in (*chosen, *left_out)) if is_whole else (),
        )

    def multipliers(self, answer: LinearAnswer) -> Whole:
        """Returns what the duals price rooms at, (R, T), as whole numbers."""
        layout = self._layout
        duals = np.zeros(len(layout.rows))
        said = answer.duals[len(self._selection.requests) :][: len(duals)]
        duals[: len(said)] = said
        prices = -duals / self._units[layout.row_rooms]
        return multipliers(self._selection, layout.rows, prices)

    def shares(self, answer: LinearAnswer) -> Shares:
        """Returns the values of the pairs; what is no share counts as 0."""
        layout = self._layout
        values = np.zeros(len(layout.asked))
        said = np.asarray(answer.values[: len(values)], dtype=float)
        values[: len(said)] = np.where(np.isfinite(said), np.clip(said, 0.0, 1.0), 0.0)
        return Shares(of=layout.of, bids=layout.hosts, values=values)


class _Shared:
    """One object for equal numbers: a program holds each of few a million times."""

    def __init__(self) -> None:
        self._numbers: dict[Any, Any] = {}

    def __call__(self, value: Any) -> Any:
        return self._numbers.setdefault((value.__class__, value), value)
