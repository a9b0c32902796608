"""Prices of rooms over time, and what they prove: whole numbers turn any prices into a bound.

For any mu_rt >= 0,

    L(mu) = sum_i min(M_i, min_b (c_ib + sum_rt mu_rt a_r,ib)) - sum_rt mu_rt Q_rt

is at most the cost of every selection (Geoffrion, "Lagrangean relaxation for integer programming",
1974). A pair holds its rooms from its start to its end, so its price is a difference of two prefix
sums, and one evaluation costs a pass over the matrix.

Multipliers are whole numbers: the price of a granule, 2^-(SHIFT + FINE) micro-dollars each. A
granule is a power of two of a room's unit, such that a room has some millions: a byte's price would
be less than can be said. What a pair holds is rounded down to granules and what a room has is
rounded up, so that L is never too high. What overflows is dearer than any penalty; it wraps to
something less, and so is counted as less.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cu_market.dnm.selection.arrays import INFEASIBLE, ROWS_AT_ONCE, Flags, Selection, Whole

SHIFT = 8
FINE = 16
GRANULES = 22
"""A room has fewer than 2^GRANULES granules: a thousandth of a room is rounded by at most a
two-thousandth of itself."""

Prices = npt.NDArray[np.float64]
LARGEST_PRICE = 2.0**62


def granules(selection: Selection) -> Whole:
    """Returns (R,) which power of two of a room's unit is a granule."""
    bits = np.array([int(row.max(initial=0)).bit_length() for row in selection.limits])
    found: Whole = np.maximum(bits - GRANULES, 0).astype(np.int64)
    return found


def multipliers(selection: Selection, rows: Whole, prices: Prices) -> Whole:
    """Returns (R, T) usable multipliers; what is no price counts as 0.

    Args:
        selection: the input.
        rows: flat indices of (room, start).
        prices: of each of these, micro-dollars for one of the room's units.
    """
    found = np.zeros(selection.limits.shape, dtype=np.int64)
    of_granule = np.exp2(granules(selection) + SHIFT + FINE)
    # What is no number is no price.
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = prices * of_granule[rows // selection.limits.shape[1]]
        usable = np.where(np.isfinite(scaled) & (scaled > 0), scaled, 0.0)
    found.flat[rows] = np.rint(np.minimum(usable, LARGEST_PRICE)).astype(np.int64)
    return found


def reduced_costs(selection: Selection, prices: Whole, out: Whole | None = None) -> Whole:
    """Returns (n, m) costs with rooms paid for, in multiples of 2^-SHIFT micro-dollars.

    Args:
        selection: the input.
        prices: (R, T), see multipliers.
        out: (n, m) to write them to; a new array by default.
    """
    # What overflows is infeasible and set below.
    total: Whole = np.left_shift(selection.costs, SHIFT, out=out)
    sums: dict[int, Whole] = {}
    for room in np.flatnonzero(prices.any(axis=1)).tolist():
        sums[room] = np.zeros(prices.shape[1] + 1, dtype=np.int64)
        np.cumsum(prices[room], out=sums[room][1:])
    down = granules(selection).tolist()
    for b, used in enumerate(selection.uses):
        for room, amounts in used:
            if room in sums:
                paid = sums[room][selection.behind[:, b]] - sums[room][selection.first]
                total[:, b] += (paid * (amounts >> down[room])) >> FINE
    total[selection.costs == INFEASIBLE] = INFEASIBLE
    return total


def bound(selection: Selection, prices: Whole, reduced: Whole | None = None) -> int:
    """Returns L, rounded up to whole micro-dollars."""
    costs = reduced_costs(selection, prices) if reduced is None else reduced
    unserved = selection.penalties << SHIFT
    least = np.minimum(costs.min(axis=1, initial=INFEASIBLE), unserved)
    # In Python's whole numbers, which do not overflow; few rooms have a price.
    rooms = np.flatnonzero(prices.any(axis=1))
    where, starts = np.nonzero(prices[rooms])
    down = granules(selection)[rooms][where]
    limits = -(-selection.limits[rooms][where, starts] >> down)
    each = zip(prices[rooms][where, starts].tolist(), limits.tolist(), strict=True)
    paid = sum(int(price) * int(limit) for price, limit in each)
    total = int(sum(least.tolist())) - -(-paid >> FINE)
    return -(-total >> SHIFT)


def usage(selection: Selection, choice: Whole) -> Whole:
    """Returns (R, T) what is held at each start; choice is a bid per request or -1."""
    rooms, moments = selection.limits.shape
    change = np.zeros((rooms, moments + 1), dtype=np.int64)
    for b in np.unique(choice[choice >= 0]):
        members = np.flatnonzero(choice == b)
        for room, amounts in selection.uses[b]:
            np.add.at(change[room], selection.first[members], amounts[members])
            np.add.at(change[room], selection.behind[members, b], -amounts[members])
    np.cumsum(change, axis=1, out=change)
    return change[:, :moments]


def near(reduced: Whole, count: int) -> Flags:
    """Returns which pairs are among a request's so many lowest."""
    found = np.zeros(reduced.shape, dtype=bool)
    count = min(count, reduced.shape[1])
    if count:
        for begin in range(0, len(reduced), ROWS_AT_ONCE):
            rows = slice(begin, begin + ROWS_AT_ONCE)
            lowest = np.argpartition(reduced[rows], count - 1, axis=1)[:, :count]
            np.put_along_axis(found[rows], lowest, True, axis=1)
    return found & (reduced < INFEASIBLE)
