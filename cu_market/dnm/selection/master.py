"""The restricted program: some pairs as columns, and the rows that they could exceed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cu_market.dnm.programs.growing import Coefficients, Entries, Growing
from cu_market.dnm.programs.linear import LinearAnswer, LinearProgram, LinearRow
from cu_market.dnm.selection.arrays import INFEASIBLE, ROWS_AT_ONCE, Flags, Selection, Whole
from cu_market.dnm.selection.multipliers import SHIFT, Prices, bound, near, reduced_costs, rounded
from cu_market.dnm.selection.rounding import UNSERVED

JOINING_COLUMNS = 12
LEAST_SHARE = 1e-9
LEAST_PRICE = 1e-7
"""A dual below it is none: micro-dollars for one of the units that the row is written in."""

WORST_ROWS = 32
"""Rows of a room that join at a time: of the starts where more is held than at those beside them,
those that are exceeded most."""

FIRST_ROWS = 400
"""About so many of the rows that have a price are there from the start: rows of starts beside one
another say nearly the same, and the first programs of 5,000 requests take four times as long with
all of them."""

Shares = list[dict[int, float]]
"""By request: the values above 0 of its pairs, by bid."""


class Master:
    """Which pairs and which (room, start) rows the program has.

    Args:
        selection: the input.
        wanted: (n, m) pairs that are columns.
        prices: (R, T); where given, only some rows with a price are there from the start, and
            others join where they are exceeded.
        built: (n, m) of the wanted pairs, those that the program is built with; all by default.
    """

    def __init__(
        self,
        selection: Selection,
        wanted: Flags,
        prices: Whole | None = None,
        built: Flags | None = None,
    ) -> None:
        self.selection = selection
        self.wanted = wanted.copy()
        parts = [wanted] if built is None else [wanted & built, wanted & ~built]
        self.pairs = [(int(i), int(b)) for part in parts for i, b in np.argwhere(part)]
        self._first = int(parts[0].sum())
        self._units: dict[int, float] = {}
        self._numbers: dict[Any, Any] = {}
        self.holders = self._holders()
        self.rows = self._needed(prices)
        self.known = set(self.rows)

    def program(self, choice: Whole | None = None, *, is_whole: bool = False) -> LinearProgram:
        """Returns min sum c x + sum M z with one served row per request and the rooms' rows.

        Its columns are the pairs that it is to be built with.
        """
        s = self.selection
        count, many = len(s.requests), self._first
        pairs = self.pairs[:many]
        served: list[list[int]] = [[many + i] for i in range(count)]
        for k, (i, _) in enumerate(pairs):
            served[i].append(k)
        rows = [
            LinearRow(columns=tuple(c), coefficients=(1.0,) * len(c), lower=1.0, upper=1.0)
            for c in served
        ]
        rows += [self._row(room, t) for room, t in self.rows]
        costs = [float(s.costs[i, b]) for i, b in pairs]
        costs += [float(p) for p in s.penalties]
        known: list[tuple[int, float]] = []
        if choice is not None:
            known = [(k, 1.0) for k, (i, b) in enumerate(pairs) if choice[i] == b]
            known += [(many + i, 1.0) for i in range(count) if choice[i] == UNSERVED]
        return LinearProgram(
            costs=tuple(costs),
            uppers=(1.0,) * len(costs),
            rows=tuple(rows),
            integers=tuple(range(many)) if is_whole else (),
            incumbent=tuple(known),
        )

    def open(self, open_program: Callable[[LinearProgram], Growing]) -> Growing:
        """Builds the program and adds the pairs that it is not built with."""
        live = open_program(self.program())
        self._add_columns(live, self.asked[self._first :], self.hosts[self._first :])
        return live

    def price(self, answer: LinearAnswer, out: Whole) -> int:
        """Writes reduced costs at the duals to out, (n, m), and returns the bound there."""
        s = self.selection
        multipliers = np.zeros(s.limits.shape, dtype=np.int64)
        duals = answer.duals[len(s.requests) :][: len(self.rows)]
        units = [self._unit(room) for room, _ in self.rows[: len(duals)]]
        prices = rounded(-np.asarray(duals, dtype=float) / np.asarray(units, dtype=float))
        for (room, t), price in zip(self.rows, prices.tolist(), strict=False):
            multipliers[room, t] = price
        reduced_costs(s, multipliers, out=out)
        return bound(s, multipliers, out)

    def shares(self, answer: LinearAnswer) -> Shares:
        """Returns by request the values above 0 of its pairs, by bid."""
        found: Shares = [{} for _ in self.selection.requests]
        values = np.asarray(answer.values)[self._columns(np.arange(len(self.pairs)))]
        for k in np.flatnonzero(values > LEAST_SHARE).tolist():
            i, b = self.pairs[k]
            found[i][b] = float(values[k])
        return found

    def exceeded(self, shares: Shares) -> list[tuple[int, int]]:
        """Returns (room, start) rows that the shares exceed and the program does not have."""
        s = self.selection
        change: dict[int, Prices] = {}
        for i, held_there in enumerate(shares):
            for b, share in held_there.items():
                for room, amounts in s.uses[b]:
                    if room not in change:
                        change[room] = np.zeros(s.limits.shape[1] + 1)
                    held = share * amounts[i]
                    change[room][s.first[i]] += held
                    change[room][s.behind[i, b]] -= held
        found: list[tuple[int, int]] = []
        for room, changes in sorted(change.items()):
            limits = s.limits[room]
            over = np.cumsum(changes)[:-1] - limits
            beside = np.concatenate(([-np.inf], over, [-np.inf]))
            is_peak = (over >= beside[:-2]) & (over > beside[2:])
            is_exceeded = over > 1e-6 * max(int(limits.max(initial=1)), 1)
            exceeded = np.flatnonzero(is_peak & is_exceeded).tolist()
            worst = sorted((-float(over[t]), t) for t in exceeded if (room, t) not in self.known)
            found += [(room, t) for _, t in worst[:WORST_ROWS]]
        return found

    def joining(self, reduced: Whole) -> Flags:
        """Returns pairs outside whose reduced cost is below what their request pays now."""
        found = np.zeros(reduced.shape, dtype=bool)
        for begin in range(0, len(reduced), ROWS_AT_ONCE):
            rows = slice(begin, begin + ROWS_AT_ONCE)
            some, wanted = reduced[rows], self.wanted[rows]
            inside = np.where(wanted, some, INFEASIBLE).min(axis=1)
            least = np.minimum(inside, self.selection.penalties[rows] << SHIFT)
            better = (some < least[:, None] - (1 << SHIFT)) & ~wanted
            found[rows] = better & near(np.where(better, some, INFEASIBLE), JOINING_COLUMNS)
        return found

    def shrink(self, program: Growing, answer: LinearAnswer) -> None:
        """Takes out the rows that have no price: what those beside them hold, holds them too."""
        count = len(self.selection.requests)
        duals = np.abs(np.asarray(answer.duals[count:][: len(self.rows)], dtype=float))
        unpriced = np.flatnonzero(duals < LEAST_PRICE)
        if len(unpriced):
            program.remove_rows((count + unpriced).tolist())
            gone = set(unpriced.tolist())
            self.rows = [row for k, row in enumerate(self.rows) if k not in gone]
            self.known = set(self.rows)

    def grow(self, program: Growing, rows: list[tuple[int, int]], columns: Flags) -> None:
        """Adds rows and pairs to the program."""
        if rows:
            held = Entries.of([self._held(room, t) for room, t in rows])
            program.add_rows([self._upper(room, t) for room, t in rows], held)
            self.rows += rows
            self.known.update(rows)
        asked, hosts = np.nonzero(columns)
        if len(asked):
            self._add_columns(program, asked, hosts)
            self.pairs += zip(asked.tolist(), hosts.tolist(), strict=True)
            self.wanted |= columns
            self.holders = self._holders()

    def _add_columns(self, program: Growing, asked: Whole, hosts: Whole) -> None:
        if len(asked):
            costs = self.selection.costs[asked, hosts].astype(float).tolist()
            program.add_columns(costs, 1.0, self._entries(asked, hosts))

    def _entries(self, asked: Whole, hosts: Whole) -> Entries:
        """Returns what pairs hold in the rows: their request's own, and rooms while they run."""
        s = self.selection
        moments: dict[int, list[tuple[int, int]]] = {}
        for number, (room, t) in enumerate(self.rows, start=len(s.requests)):
            moments.setdefault(room, []).append((t, number))
        parts = [(np.arange(len(asked)), asked, np.ones(len(asked)))]
        for b in np.unique(hosts):
            mine = np.flatnonzero(hosts == b)
            i = asked[mine]
            for room, used in s.uses[b]:
                if room in moments:
                    at, numbers = np.array(moments[room]).T
                    there = (s.first[i, None] <= at) & (at < s.behind[i, b, None])
                    which, when = np.nonzero(there)
                    parts.append((mine[which], numbers[when], used[i[which]] / self._unit(room)))
        pairs, members, amounts = (np.concatenate(each) for each in zip(*parts, strict=True))
        order = np.argsort(pairs, kind="stable")
        return Entries(
            begins=np.searchsorted(pairs[order], np.arange(len(asked))),
            members=members[order],
            coefficients=amounts[order],
        )

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

    def _needed(self, prices: Whole | None) -> list[tuple[int, int]]:
        """Rows that the pairs could exceed, one for each largest set that is there together; of
        some sets around a price only, where there are prices."""
        s = self.selection
        found: list[tuple[int, int]] = []
        for room, (_, asked, first, behind, held) in self.holders.items():
            starts = np.unique(first)
            ends = np.sort(behind)
            gone = np.searchsorted(ends, starts, side="right")
            limits = s.limits[room, starts]
            is_largest = (gone[:-1] < gone[1:]) | (limits[:-1] < limits[1:])
            kept = starts[np.append(is_largest, True)]
            if prices is not None:
                priced = np.searchsorted(kept, np.flatnonzero(prices[room]))
                kept = kept[np.unique(priced[priced < len(kept)])]
            for t in kept.tolist():
                there = (first <= t) & (t < behind)
                most = np.zeros(len(s.requests), dtype=np.int64)
                np.maximum.at(most, asked[there], held[there])
                if int(most.sum()) > int(s.limits[room, t]):
                    found.append((room, t))
        return found if prices is None else found[:: max(1, len(found) // FIRST_ROWS)]

    def _held(self, room: int, t: int) -> tuple[Whole, Coefficients]:
        """Returns the columns that hold some of the room then, and how much."""
        pairs, _, first, behind, held = self.holders[room]
        there = np.flatnonzero((first <= t) & (t < behind))
        return self._columns(pairs[there]), held[there] / self._unit(room)

    def _upper(self, room: int, t: int) -> float:
        return float(self.selection.limits[room, t]) / self._unit(room)

    def _row(self, room: int, t: int) -> LinearRow:
        columns, amounts = self._held(room, t)
        is_built = columns < self._first
        columns, amounts = columns[is_built], amounts[is_built]
        return LinearRow(
            columns=tuple(map(self._number, columns.tolist())),
            coefficients=tuple(map(self._number, amounts.tolist())),
            upper=self._upper(room, t),
        )

    def _number(self, value: Any) -> Any:
        """Returns one object for equal numbers: a program holds each of few a million times."""
        return self._numbers.setdefault((value.__class__, value), value)
