"""Some pairs of a selection, and the rows that they could exceed, all of them at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cu_market.dnm.selection.arrays import Flags, Selection, Whole
from cu_market.dnm.selection.steps import Counts, Holds, mark_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Pairs by request, and what they hold: an entry for each pair and room with rows.

    Attributes:
        asked, hosts: by pair, its request and its bid.
        of: (n + 1,) where each request's pairs begin.
        rows: rooms times T plus starts, in order.
        row_rooms: by row.
        limits: by row, in the room's own unit.
        pairs: by entry, in order.
        rooms: by entry.
        first, behind: by entry, it holds the rows first to behind - 1.
        amounts: by entry, in the room's own unit.
    """

    asked: Whole
    hosts: Whole
    of: Whole
    rows: Whole
    row_rooms: Whole
    limits: Whole
    pairs: Whole
    rooms: Whole
    first: Whole
    behind: Whole
    amounts: Whole

    @property
    def size(self) -> int:
        """How often a pair holds a row."""
        return int((self.behind - self.first).sum())


class Uses:
    """What every bid holds of the rooms, as arrays; see arrays.Selection.uses_in_arrays."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.of, self.rooms, self.amounts = selection.uses_in_arrays()

    def lay_out(self, wanted: Flags) -> Layout:
        """Returns the layout of (n, m) wanted pairs."""
        s = self.selection
        starts = s.limits.shape[1]
        asked, hosts = map(np.ascontiguousarray, np.nonzero(wanted))
        pairs, used = expanded(self.of[hosts], self.of[hosts + 1])
        requests = asked[pairs]
        rooms, amounts = self.rooms[used], self.amounts[used, requests]
        first, behind = s.first[requests], s.behind[requests, hosts[pairs]].astype(np.int64)
        there, numbers = np.unique(rooms, return_inverse=True)
        is_row = np.zeros((len(there), starts), dtype=np.bool_)
        mark_rows(
            Holds(rooms=numbers, first=first, behind=behind, amounts=amounts),
            s.limits[there],
            Counts(*(np.zeros((len(there), starts + 1), dtype=np.int64) for _ in range(3))),
            is_row,
        )
        which, at = np.nonzero(is_row)
        before = np.concatenate(([0], np.cumsum(is_row)))
        first, behind = before[numbers * starts + first], before[numbers * starts + behind]
        held = np.flatnonzero(first < behind)
        row_rooms = there[which]
        return Layout(
            asked=asked,
            hosts=hosts,
            of=np.searchsorted(asked, np.arange(len(s.requests) + 1)),
            rows=row_rooms * starts + at,
            row_rooms=row_rooms,
            limits=s.limits[row_rooms, at],
            pairs=pairs[held],
            rooms=rooms[held],
            first=first[held],
            behind=behind[held],
            amounts=amounts[held],
        )


def expanded(begins: Whole, ends: Whole) -> tuple[Whole, Whole]:
    """Returns all numbers from each begin to before its end, one after the other: which range each
    is of, and the numbers."""
    counts = ends - begins
    which = np.repeat(np.arange(len(counts)), counts)
    past = np.cumsum(counts) - counts
    return which, np.arange(len(which)) - past[which] + begins[which]
