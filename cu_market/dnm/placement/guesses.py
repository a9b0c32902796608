"""Guesses of where each request of a plan runs: a small problem that knows no room and no time.

With c_i(l) the cheapest pair of request i in location l and t_e(l, m) what input e costs from l to
m, sum_i c_i(l_i) + sum_e t_e(l_source, l_reader) is lowered from several starts by moving one
request, or one group of requests that are joined by inputs and share a location, until no move
lowers it. Each move lowers a sum of whole numbers, so it ends. It may be ended before: what stands
then is a guess too, since any location that has an offer is one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cu_market.dnm.offers import OfferTable
from cu_market.domain.inputs import Place
from cu_market.domain.units import lease_cost_microusd

MOST_GUESSES = 4
"""The best ones are tried: each costs the building of some tables of pairs."""

Labels = tuple[str, ...]
"""A location by request, in the table's order; empty where it has no offer."""


@dataclass(frozen=True, slots=True)
class _Link:
    """Bytes that one request of the plan writes for another, by index."""

    source: int
    reader: int
    size_bytes: int


def guess_places(
    table: OfferTable, is_over: Callable[[], bool] = lambda: False
) -> tuple[list[dict[str, Place]], bool]:
    """Returns guesses and whether they were cut: the best first, each a place by request_id, those
    that nobody serves left out.

    Args:
        table: with transfers between its own requests free.
        is_over: asked before every move that is tried; once it says so, no more are, and the
            guesses are the best so far. Equal tables give equal guesses where it never does.
    """
    costs = _costs(table)
    places = _places(table)
    locations = sorted({location for row in costs for location in row})
    alone = tuple(min(row, key=lambda at: (row[at], at), default="") for row in costs)
    starts = {alone}
    for location in locations:
        starts.add(
            tuple(location if location in row else label for row, label in _zip(costs, alone))
        )
    problem = _Problem(table, costs, _links(table), places, is_over)

    def ranked(found: Collection[Labels]) -> list[Labels]:
        return sorted(found, key=lambda labels: (problem.total(labels), labels))

    lowered = {problem.lowered(start) for start in ranked(starts)}  # the best, while there is time
    guesses = [
        {
            request.request_id: places[location]
            for request, location in zip(table.requests, labels, strict=True)
            if location
        }
        for labels in ranked(lowered | starts)[:MOST_GUESSES]
    ]
    return guesses, problem.is_cut


def _zip(
    rows: Sequence[Mapping[str, int]], labels: Iterable[str]
) -> Iterable[tuple[Mapping[str, int], str]]:
    return zip(rows, labels, strict=True)


def _costs(table: OfferTable) -> list[dict[str, int]]:
    """Returns by request the cheapest cost in each location that has an offer for it."""
    found: list[dict[str, int]] = []
    for offers in table.offers:
        row: dict[str, int] = {}
        for offer in offers:
            location = table.bids[offer.bid].profile.location
            row[location] = min(row.get(location, offer.floor_microusd), offer.floor_microusd)
        found.append(row)
    return found


def _links(table: OfferTable) -> list[_Link]:
    index = {request.request_id: i for i, request in enumerate(table.requests)}
    return [
        _Link(index[data.source], i, data.size_bytes)
        for i, request in enumerate(table.requests)
        for data in request.inputs
        if data.place is None and data.size_bytes and data.source in index
    ]


def _places(table: OfferTable) -> dict[str, Place]:
    """Returns one place a location: the first of those that its bids say, in their order."""
    found: dict[str, Place] = {}
    for place in sorted({bid.profile.place for bid in table.bids}):
        found.setdefault(place.location, place)
    return found


class _Problem:
    """The sum, and how it is lowered.

    Attributes:
        is_cut: moves were left untried, since the time was over.
    """

    def __init__(
        self,
        table: OfferTable,
        costs: Sequence[Mapping[str, int]],
        links: Sequence[_Link],
        places: Mapping[str, Place],
        is_over: Callable[[], bool],
    ) -> None:
        self.is_cut = False
        self._is_over = is_over
        self._values = [r.value_of_time_microusd_per_hour for r in table.requests]
        self._costs, self._links, self._places = costs, links, places
        self._of: dict[int, list[_Link]] = defaultdict(list)
        for link in links:
            self._of[link.source].append(link)
            self._of[link.reader].append(link)

    def total(self, labels: Labels) -> int:
        """Returns the sum at these locations."""
        alone = sum(row[label] for row, label in _zip(self._costs, labels) if label)
        return alone + sum(
            self._transfer(link, labels[link.source], labels[link.reader]) for link in self._links
        )

    def lowered(self, labels: Labels) -> Labels:
        """Returns locations from which no move of a request or a group lowers the sum, or the best
        so far where the time is over."""
        best = list(labels)
        has_moved = True
        while has_moved:
            has_moved = False
            groups = [[i] for i in range(len(labels)) if i in self._of] + self._groups(best)
            for group in groups:
                for location in sorted(self._places):
                    if self._is_over():
                        self.is_cut = True
                        return tuple(best)
                    if self._is_lower(best, group, location):
                        for i in group:
                            best[i] = location
                        has_moved = True
        return tuple(best)

    def _is_lower(self, labels: Sequence[str], group: Sequence[int], location: str) -> bool:
        """Whether the sum is lower with the group there; only its own part is looked at."""
        if any(location not in self._costs[i] for i in group):
            return False
        members = set(group)
        touched = {link for i in group for link in self._of.get(i, ())}
        change = sum(self._costs[i][location] - self._costs[i][labels[i]] for i in group)
        for link in touched:
            at, to = labels[link.source], labels[link.reader]
            moved_at = location if link.source in members else at
            moved_to = location if link.reader in members else to
            change += self._transfer(link, moved_at, moved_to) - self._transfer(link, at, to)
        return change < 0

    def _groups(self, labels: Sequence[str]) -> list[list[int]]:
        """Returns the requests joined by links within one location, those of several requests."""
        root = list(range(len(labels)))

        def find(i: int) -> int:
            while root[i] != i:
                root[i] = root[root[i]]
                i = root[i]
            return i

        for link in self._links:
            if labels[link.source] == labels[link.reader]:
                root[find(link.source)] = find(link.reader)
        members: dict[int, list[int]] = defaultdict(list)
        for i in sorted(self._of):
            members[find(i)].append(i)
        return [group for group in members.values() if len(group) > 1]

    def _transfer(self, link: _Link, at: str, to: str) -> int:
        if not at or not to or at == to:
            return 0
        later_ms = self._places[at].transfer_ms(link.size_bytes, self._places[to])
        delay = lease_cost_microusd(self._values[link.reader], later_ms)
        return self._places[at].egress_microusd(link.size_bytes, to) + delay
