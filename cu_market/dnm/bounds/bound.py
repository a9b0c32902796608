"""A lower bound that is valid whatever a solver said, in whole numbers.

Lagrangian relaxation of the rows: for any multipliers mu_r >= 0

    L(mu) = sum_i min(M_i, min_b (c_ib + sum_r mu_r a_r,ib)) - sum_r mu_r Q_r

is at most the cost of every plan, since a plan's left sides are at most Q_r. (Geoffrion,
"Lagrangean relaxation for integer programming", 1974.) Good multipliers come from the linear
program's duals; bad ones only make the bound weak. Multipliers are rounded to multiples of 2^-40
micro-dollars first, and everything after that is exact; a plan's cost is whole, so L is rounded up.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from cu_market.dnm.offers import OfferTable
from cu_market.dnm.programs.instance import ProgramData

SHIFT = 40


def floor_bound(table: OfferTable) -> int:
    """Returns the sum over requests of the cheapest offer without waiting, in micro-dollars.

    Valid for free starts as well: waiting only adds to a cost.
    """
    return sum(
        min((offer.floor_microusd for offer in offers), default=0) for offers in table.offers
    )


def multipliers(duals: Mapping[int, float], rows: int) -> dict[int, int]:
    """Returns the usable multipliers in units of 2^-40 micro-dollars, by row.

    What is not finite, not above zero or of no row is left out.
    """
    usable = {
        row: round(value * 2**SHIFT)
        for row, value in duals.items()
        if 0 <= row < rows and isfinite(value) and 0 < value < 2.0**60
    }
    return {row: mu for row, mu in usable.items() if mu > 0}


def lagrangian_bound(data: ProgramData, duals: Mapping[int, float]) -> int:
    """Returns L(mu), rounded up to whole micro-dollars; valid for the program's fixed starts."""
    reduced = [cost << SHIFT for cost in data.column_costs_microusd]
    total = 0
    for r, mu in multipliers(duals, len(data.rows)).items():
        row = data.rows[r]
        total -= mu * row.limit
        for column, amount in zip(row.columns, row.amounts, strict=True):
            reduced[column] += mu * amount
    cheapest = [penalty << SHIFT for penalty in data.penalties_microusd]
    for column, request in enumerate(data.column_requests):
        if reduced[column] < cheapest[request]:
            cheapest[request] = reduced[column]
    return -((-total - sum(cheapest)) >> SHIFT)
