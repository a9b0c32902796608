"""The restricted program: some pairs as columns, and the rows that they could exceed."""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

import numpy as np

from cu_market.dnm.linear import LinearAnswer, LinearProgram, LinearRow
from cu_market.dnm.selection.arrays import INFEASIBLE, Flags, Selection, Whole
from cu_market.dnm.selection.multipliers import SHIFT, Prices, bound, near, reduced_costs, whole
from cu_market.dnm.selection.rounding import UNSERVED

JOINING_COLUMNS = 12
WORST_ROWS = 4
"""Rows of a room that join at a time: those that are exceeded most."""


class Live(Protocol):
    """A program that grows and is solved again."""

    def add_column(
        self, cost: float, upper: float, rows: list[int], coefficients: list[float]
    ) -> None:
        """Adds a column."""

    def add_row(self, upper: float, columns: list[int], coefficients: list[float]) -> None:
        """Adds a row."""

    def solve(self, *, limit_seconds: float) -> LinearAnswer:
        """Returns the answer."""


class Master:
    """Which pairs and which (room, start) rows the program has.

    Args:
        selection: the input.
        wanted: (n, m) pairs that are columns.
    """

    def __init__(self, selection: Selection, wanted: Flags) -> None:
        self.selection = selection
        self.wanted = wanted.copy()
        self.pairs = [(int(i), int(b)) for i, b in np.argwhere(wanted)]
        self._first = len(self.pairs)
        self._units: dict[int, float] = {}
        self.holders = self._holders()
        self.rows = self._needed()
        self.known = set(self.rows)

    def program(self, choice: Whole | None = None, *, is_whole: bool = False) -> LinearProgram:
        """Returns min sum c x + sum M z with one served row per request and the rooms' rows."""
        s = self.selection
        count, many = len(s.requests), len(self.pairs)
        served: list[list[int]] = [[many + i] for i in range(count)]
        for k, (i, _) in enumerate(self.pairs):
            served[i].append(k)
        rows = [
            LinearRow(columns=tuple(c), coefficients=(1.0,) * len(c), lower=1.0, upper=1.0)
            for c in served
        ]
        rows += [self._row(room, t) for room, t in self.rows]
        costs = [float(s.costs[i, b]) for i, b in self.pairs]
        costs += [float(p) for p in s.penalties]
        known: list[tuple[int, float]] = []
        if choice is not None:
            known = [(k, 1.0) for k, (i, b) in enumerate(self.pairs) if choice[i] == b]
            known += [(many + i, 1.0) for i in range(count) if choice[i] == UNSERVED]
        return LinearProgram(
            costs=tuple(costs),
            uppers=(1.0,) * len(costs),
            rows=tuple(rows),
            integers=tuple(range(many)) if is_whole else (),
            incumbent=tuple(known),
        )

    def price(self, answer: LinearAnswer) -> tuple[Whole, int]:
        """Returns reduced costs and the bound at the duals."""
        s = self.selection
        prices: Prices = np.zeros(s.limits.shape)
        for (room, t), dual in zip(self.rows, answer.duals[len(s.requests) :], strict=False):
            prices[room, t] = max(0.0, -dual) / self._unit(room)
        multipliers = whole(prices)
        reduced = reduced_costs(s, multipliers)
        return reduced, bound(s, multipliers, reduced)

    def shares(self, answer: LinearAnswer) -> Prices:
        """Returns (n, m) the values of the pairs."""
        found = np.zeros(self.selection.costs.shape)
        columns = self._columns(np.arange(len(self.pairs)))
        found[self.asked, self.hosts] = np.asarray(answer.values)[columns]
        return found

    def exceeded(self, answer: LinearAnswer) -> list[tuple[int, int]]:
        """Returns (room, start) rows that the values exceed and the program does not have."""
        s = self.selection
        shares = self.shares(answer)
        change = np.zeros((s.limits.shape[0], s.limits.shape[1] + 1))
        for i, b in np.argwhere(shares > 1e-9):
            for room, amounts in s.uses[b]:
                held = shares[i, b] * amounts[i]
                change[room, s.first[i]] += held
                change[room, s.behind[i, b]] -= held
        over = np.cumsum(change, axis=1)[:, :-1] - s.limits
        slack = 1e-6 * np.maximum(s.limits.max(axis=1, initial=1), 1)[:, None]
        found = [(int(r), int(t)) for r, t in np.argwhere(over > slack)]
        worst: dict[int, list[tuple[float, int]]] = {}
        for room, t in found:
            if (room, t) not in self.known:
                worst.setdefault(room, []).append((-float(over[room, t]), t))
        return [
            (room, t) for room, most in sorted(worst.items()) for _, t in sorted(most)[:WORST_ROWS]
        ]

    def joining(self, reduced: Whole) -> Flags:
        """Returns pairs outside whose reduced cost is below what their request pays now."""
        inside = np.where(self.wanted, reduced, INFEASIBLE).min(axis=1)
        least = np.minimum(inside, self.selection.penalties << SHIFT)
        better = (reduced < least[:, None] - (1 << SHIFT)) & ~self.wanted
        found: Flags = better & near(np.where(better, reduced, INFEASIBLE), JOINING_COLUMNS)
        return found

    def grow(self, live: Live, rows: list[tuple[int, int]], columns: Flags) -> None:
        """Adds rows and pairs to the live program."""
        s = self.selection
        for room, t in rows:
            row = self._row(room, t)
            assert row.upper is not None
            live.add_row(row.upper, list(row.columns), list(row.coefficients))
            self.rows.append((room, t))
            self.known.add((room, t))
        numbers: dict[int, list[tuple[int, int]]] = {}
        for k, (room, t) in enumerate(self.rows):
            numbers.setdefault(room, []).append((t, len(s.requests) + k))
        for i, b in np.argwhere(columns):
            members, amounts = [int(i)], [1.0]
            for room, used in s.uses[b]:
                unit = self._unit(room)
                for t, number in numbers.get(room, ()):
                    if s.first[i] <= t < s.behind[i, b]:
                        members.append(number)
                        amounts.append(float(used[i]) / unit)
            live.add_column(float(s.costs[i, b]), 1.0, members, amounts)
            self.pairs.append((int(i), int(b)))
            self.wanted[i, b] = True
        self.holders = self._holders()

    def _columns(self, pairs: Whole) -> Whole:
        """Pairs of the first program, then the penalties, then the pairs that joined."""
        return np.where(pairs < self._first, pairs, pairs + len(self.selection.requests))

    def _unit(self, room: int) -> float:
        """A power of two that a room's amounts are divided by, so that solvers' tolerances fit."""
        if room not in self._units:
            largest, unit = int(self.selection.limits[room].max(initial=1)), 1.0
            while largest / unit > 2**16:
                unit *= 2
            self._units[room] = unit
        return self._units[room]

    def _holders(self) -> dict[int, tuple[Whole, Whole, Whole, Whole, Whole]]:
        """Returns by room: (pair, request, first, behind, amount) of every pair that holds some."""
        s = self.selection
        self.asked = asked = np.array([i for i, _ in self.pairs], dtype=np.int64)
        self.hosts = hosts = np.array([b for _, b in self.pairs], dtype=np.int64)
        parts: dict[int, list[tuple[Whole, Whole]]] = {}
        for b in np.unique(hosts):
            members = np.flatnonzero(hosts == b)
            for room, amounts in s.uses[b]:
                parts.setdefault(room, []).append((members, amounts[asked[members]]))
        found = {}
        for room, some in sorted(parts.items()):
            pairs = np.concatenate([members for members, _ in some])
            held = np.concatenate([amounts for _, amounts in some])
            i, b = asked[pairs], hosts[pairs]
            found[room] = (pairs, i, s.first[i], s.behind[i, b], held)
        return found

    def _needed(self) -> list[tuple[int, int]]:
        """Rows that the pairs could exceed, one for each largest set that is there together."""
        s = self.selection
        found: list[tuple[int, int]] = []
        for room, (_, asked, first, behind, held) in self.holders.items():
            starts = np.unique(first)
            ends = np.sort(behind)
            kept = [
                int(now)
                for now, following in pairwise(starts)
                if np.searchsorted(ends, now, side="right")
                < np.searchsorted(ends, following, side="right")
                or s.limits[room, now] < s.limits[room, following]
            ]
            for t in [*kept, *starts[-1:].tolist()]:
                there = (first <= t) & (t < behind)
                most = np.zeros(len(s.requests), dtype=np.int64)
                np.maximum.at(most, asked[there], held[there])
                if int(most.sum()) > int(s.limits[room, t]):
                    found.append((room, int(t)))
        return found

    def _row(self, room: int, t: int) -> LinearRow:
        pairs, _, first, behind, held = self.holders[room]
        there = np.flatnonzero((first <= t) & (t < behind))
        unit = self._unit(room)
        return LinearRow(
            columns=tuple(self._columns(pairs[there]).tolist()),
            coefficients=tuple((held[there] / unit).tolist()),
            upper=float(self.selection.limits[room, t]) / unit,
        )
