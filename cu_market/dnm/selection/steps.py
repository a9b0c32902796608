"""First-order steps on the selection's linear relaxation, and its rows: compiled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cu_market.dnm.compiled import Array, compiled, kept_on_disk, sources


class Pairs(NamedTuple):
    """The pairs of a relaxation, by request, and the rows that they hold: entries by pair and room.

    Attributes:
        of: (n + 1,) where each request's pairs begin.
        costs: by pair, in units of a mean cost.
        penalties: (n,) in the same unit.
        begins: by pair and one more, where its entries begin.
        first, behind: by entry, the rows first to behind - 1.
        amounts: by entry, what is held there, in units of the room.
        limits: by row, in the same unit.
    """

    of: Array
    costs: Array
    penalties: Array
    begins: Array
    first: Array
    behind: Array
    amounts: Array
    limits: Array


class Point(NamedTuple):
    """Where the steps are.

    Attributes:
        shares: by pair, 0 to 1.
        left_out: (n,) what is left of each request's 1.
        prices: by row, 0 or above.
    """

    shares: Array
    left_out: Array
    prices: Array


class Metric(NamedTuple):
    """How long the steps are.

    Attributes:
        requests: (n,) length of a step of a request's shares.
        rows: by row, length of a step of its price.
    """

    requests: Array
    rows: Array


class Work(NamedTuple):
    """Room to work in.

    Attributes:
        sums, held: one value more than there are rows.
        shares: one value more than there are bids.
    """

    sums: Array
    held: Array
    shares: Array


@compiled
def add_up(values: Array, sums: Array) -> None:
    """Writes the sum of all values before each place, one more than there are."""
    total = 0.0
    sums[0] = 0.0
    for k in range(values.shape[0]):
        total += values[k]
        sums[k + 1] = total


@compiled
def threshold(shares: Array, count: int, total: float) -> float:
    """Returns what is to be taken from each so that what is above it adds up to 1.

    The point of a simplex that is nearest to the given one (Michelot, 1986).
    """
    active, found = count, (total - 1.0) / count
    while True:
        above, total = 0, 0.0
        for k in range(count):
            if shares[k] > found:
                above += 1
                total += shares[k]
        if above >= active or above == 0:
            return found
        active, found = above, (total - 1.0) / above


def _compiled_steps(texts: str) -> Callable[..., None]:
    @kept_on_disk
    def run(pairs: Pairs, point: Point, metric: Metric, work: Work, count: int) -> None:
        """Does so many steps, in place.

        Each moves every request's shares against what its pairs cost and hold at the prices, to
        the nearest point that serves it once, and then every price by what is held beyond its row's
        limit at twice the new shares less the old ones.
        """
        assert len(texts) > 0
        shares, left_out, prices = point.shares, point.left_out, point.prices
        moved, held = work.shares, work.held
        for _ in range(count):
            add_up(prices, work.sums)
            held[:] = 0.0
            for i in range(left_out.shape[0]):
                begin, end, length = pairs.of[i], pairs.of[i + 1], metric.requests[i]
                total = 0.0
                for j in range(begin, end):
                    cost = pairs.costs[j]
                    for e in range(pairs.begins[j], pairs.begins[j + 1]):
                        paid = work.sums[pairs.behind[e]] - work.sums[pairs.first[e]]
                        cost += pairs.amounts[e] * paid
                    moved[j - begin] = shares[j] - length * cost
                    total += moved[j - begin]
                moved[end - begin] = left_out[i] - length * pairs.penalties[i]
                total += moved[end - begin]
                taken = threshold(moved, end - begin + 1, total)
                for j in range(begin, end):
                    share = max(0.0, moved[j - begin] - taken)
                    ahead = 2.0 * share - shares[j]
                    shares[j] = share
                    if ahead != 0.0:
                        for e in range(pairs.begins[j], pairs.begins[j + 1]):
                            amount = pairs.amounts[e] * ahead
                            held[pairs.first[e]] += amount
                            held[pairs.behind[e]] -= amount
                left_out[i] = max(0.0, moved[end - begin] - taken)
            there = 0.0
            for k in range(prices.shape[0]):
                there += held[k]
                prices[k] = max(0.0, prices[k] + metric.rows[k] * (there - pairs.limits[k]))

    return run


def _compiled_weights(texts: str) -> Callable[..., None]:
    @kept_on_disk
    def run(pairs: Pairs, weights: Array, sums: Array, by_pair: Array, by_row: Array) -> None:
        """Writes what each pair holds of all rows, times their weights, and what is held of each.

        Args:
            pairs: the pairs.
            weights: by row.
            sums: room for one value more than there are rows.
            by_pair: is written.
            by_row: is written, one value more than there are rows.
        """
        assert len(texts) > 0
        add_up(weights, sums)
        by_row[:] = 0.0
        for j in range(by_pair.shape[0]):
            by_pair[j] = 0.0
            for e in range(pairs.begins[j], pairs.begins[j + 1]):
                first, behind, amount = pairs.first[e], pairs.behind[e], pairs.amounts[e]
                by_pair[j] += amount * (sums[behind] - sums[first])
                by_row[first] += amount
                by_row[behind] -= amount
        for k in range(1, by_row.shape[0]):
            by_row[k] += by_row[k - 1]

    return run


class Holds(NamedTuple):
    """What pairs hold: by entry, its room, from which start on, until which, and how much.

    Attributes:
        rooms: numbered from 0, as the rows of the counts.
        first, behind: indices of distinct starts.
        amounts: in the room's own unit.
    """

    rooms: Array
    first: Array
    behind: Array
    amounts: Array


class Counts(NamedTuple):
    """By room and start, and one start more: how many entries begin there, how many end, and by how
    much what is held changes."""

    begins: Array
    ends: Array
    held: Array


def _compiled_rows(texts: str) -> Callable[..., None]:
    @kept_on_disk
    def run(holds: Holds, limits: Array, counts: Counts, is_row: Array) -> None:
        """Marks the starts of each room at which a largest set of entries is there, too large.

        Use grows at starts alone. Where nothing ends between a start and the next, those that are
        there at the first are still there at the second, which says more; unless its limit is
        larger.

        Args:
            holds: the entries.
            limits: by room and start.
            counts: all 0.
            is_row: by room and start; all false.
        """
        assert len(texts) > 0
        for e in range(holds.rooms.shape[0]):
            room, first, behind = holds.rooms[e], holds.first[e], holds.behind[e]
            counts.begins[room, first] += 1
            counts.ends[room, behind] += 1
            counts.held[room, first] += holds.amounts[e]
            counts.held[room, behind] -= holds.amounts[e]
        for room in range(limits.shape[0]):
            last, has_ended, held, held_last = -1, False, 0, 0
            for t in range(limits.shape[1]):
                held += counts.held[room, t]
                has_ended = has_ended or counts.ends[room, t] > 0
                if counts.begins[room, t] == 0:
                    continue
                if last >= 0 and (has_ended or limits[room, last] < limits[room, t]):
                    is_row[room, last] = held_last > limits[room, last]
                last, has_ended, held_last = t, False, held
            if last >= 0:
                is_row[room, last] = held_last > limits[room, last]

    return run


_TEXTS = sources(Path(__file__).parent)
take_steps = _compiled_steps(_TEXTS)
weigh = _compiled_weights(_TEXTS)
mark_rows = _compiled_rows(_TEXTS)
