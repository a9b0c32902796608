"""Prices of rooms over time: subgradients find them, whole numbers turn them into a bound.

For any mu_rt >= 0,

    L(mu) = sum_i min(M_i, min_b (c_ib + sum_rt mu_rt a_r,ib)) - sum_rt mu_rt Q_rt

is at most the cost of every selection (Geoffrion, "Lagrangean relaxation for integer programming",
1974). A pair holds its rooms from its start to its end, so its price is a difference of two prefix
sums, and one evaluation costs a pass over the matrix. Multipliers are whole multiples of 2^-SHIFT
micro-dollars, so that L is computed exactly.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cu_market.dnm.selection.arrays import INFEASIBLE, ROWS_AT_ONCE, Flags, Selection, Whole

SHIFT = 8
Prices = npt.NDArray[np.float64]
LARGEST_PRICE = 2.0**40
ITERATIONS = 20


def rounded(prices: Prices) -> Whole:
    """Returns usable multipliers, multiples of 2^-SHIFT; what is no price counts as 0."""
    usable = np.where(np.isfinite(prices) & (prices > 0), np.minimum(prices, LARGEST_PRICE), 0.0)
    found: Whole = np.rint(usable * 2**SHIFT).astype(np.int64)
    return found


def whole(prices: Prices) -> Whole:
    """Returns (R, T) usable multipliers, room by room: few have a price, and R T is large."""
    found = np.zeros(prices.shape, dtype=np.int64)
    for room in np.flatnonzero(prices.any(axis=1)).tolist():
        found[room] = rounded(prices[room])
    return found


def reduced_costs(selection: Selection, multipliers: Whole, out: Whole | None = None) -> Whole:
    """Returns (n, m) costs with rooms paid for, in multiples of 2^-SHIFT micro-dollars.

    Args:
        selection: the input.
        multipliers: see whole.
        out: (n, m) to write them to; a new array by default.
    """
    # What overflows is infeasible and set below.
    total: Whole = np.left_shift(selection.costs, SHIFT, out=out)
    sums: dict[int, Whole] = {}
    for room in np.flatnonzero(multipliers.any(axis=1)).tolist():
        sums[room] = np.zeros(multipliers.shape[1] + 1, dtype=np.int64)
        np.cumsum(multipliers[room], out=sums[room][1:])
    for b, used in enumerate(selection.uses):
        for room, amounts in used:
            if room in sums:
                paid = sums[room][selection.behind[:, b]] - sums[room][selection.first]
                total[:, b] += paid * amounts
    total[selection.costs == INFEASIBLE] = INFEASIBLE
    return total


def bound(selection: Selection, multipliers: Whole, reduced: Whole | None = None) -> int:
    """Returns L, rounded up to whole micro-dollars."""
    costs = reduced_costs(selection, multipliers) if reduced is None else reduced
    unserved = selection.penalties << SHIFT
    least = np.minimum(costs.min(axis=1, initial=INFEASIBLE), unserved)
    # In Python's whole numbers, which do not overflow; few rooms have a price.
    rooms = np.flatnonzero(multipliers.any(axis=1))
    priced = np.nonzero(multipliers[rooms])
    prices = multipliers[rooms][priced].tolist()
    limits = selection.limits[rooms][priced].tolist()
    paid = sum(price * limit for price, limit in zip(prices, limits, strict=True))
    total = int(sum(least.tolist())) - int(paid)
    return -(-total >> SHIFT)


def subgradient(
    selection: Selection, upper: int, iterations: int = ITERATIONS
) -> tuple[Whole, int]:
    """Returns multipliers and their bound after so many steps from zero.

    Step length as Held, Wolfe and Crowder ("Validation of subgradient optimization", 1974): the
    distance to a known selection's cost over the squared norm, halved where nothing improves.
    """
    rooms, moments = selection.limits.shape
    prices = np.zeros((rooms, moments))
    best, best_bound, factor, stale = whole(prices), -(2**62), 1.0, 0
    requests, units = np.arange(len(selection.requests)), _units(selection)
    reduced = np.empty_like(selection.costs)
    for _ in range(iterations):
        multipliers = whole(prices)
        reduced_costs(selection, multipliers, out=reduced)
        choice = reduced.argmin(axis=1)
        served = reduced[requests, choice] < selection.penalties << SHIFT
        found = bound(selection, multipliers, reduced)
        if found > best_bound:
            best, best_bound, stale = multipliers, found, 0
        else:
            stale += 1
            if stale == 4:
                factor, stale = factor / 2, 0
                prices = best / 2.0**SHIFT
                continue
        excess = usage(selection, np.where(served, choice, -1))
        excess -= selection.limits
        # Where a room is not priced and not exceeded, nothing pulls.
        pull = np.where((prices > 0) | (excess > 0), excess, 0) / units
        norm = float((pull**2).sum())
        if norm == 0:
            break
        step = factor * max(upper - found, 1) / norm
        prices = np.maximum(prices + step * pull / units, 0.0)
    return best, best_bound


def _units(selection: Selection) -> Prices:
    """Returns (R, 1) what each room is measured in, so that bytes and units pull alike."""
    largest: Prices = np.maximum(selection.limits.max(axis=1, initial=1), 1).astype(float)
    return largest[:, None]


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
