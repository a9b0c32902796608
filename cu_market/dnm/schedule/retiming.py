"""Moves all tasks in time at once: who stands on which CU, and in what order, stays.

Sets
    i in I            tasks;  k in K  CUs;  A  pairs (i, j) of which j starts after i has ended:
                      parent and child, or one after the other on one CU

Parameters
    d_i               time of i on its CU;  E_i, L_i  its window;  p_k  price of k's type

Variables
    t_i >= E_i        start of i;  f_k  first start on k;  l_k  last end on k

Objective
    min  sum_k p_k (l_k - f_k)

Constraints
    order             t_j - t_i >= d_i                  for each (i, j) in A
    span              f_k <= t_i,  t_i + d_i <= l_k     for each i on k
    window            t_i + d_i <= L_i

Every row is a difference of two variables, so the matrix is totally unimodular and the program's
vertices are whole milliseconds. No two tasks of a CU overlap that did not before, so no load grows.
"""

from __future__ import annotations

from cu_market.dnm.programs.linear import LinearProgram, LinearRow, LinearSolver
from cu_market.dnm.schedule.bundle import Stay, make
from cu_market.dnm.schedule.packing import Packing


def retimed(packing: Packing, solver: LinearSolver, *, limit_seconds: float) -> Packing | None:
    """Returns the schedule with all starts moved, or None where it would not cost less.

    Args:
        packing: complete.
        solver: its values are rounded to milliseconds and checked before they are used.
        limit_seconds: of the solver.
    """
    stays = [stay for stay in packing.stays if stay is not None]
    if len(stays) < len(packing.stays):
        return None
    if any(m.quantity is not None for m in packing.catalogue.machines):
        return None  # units would need rows over time
    answer = solver.solve_linear(_program(packing, stays), limit_seconds=limit_seconds)
    if len(answer.values) < len(stays):
        return None
    windows = packing.windows
    moved: list[Stay] = []
    for stay, value in zip(stays, answer.values, strict=False):
        start = windows.earliest[stay.task] + round(1000 * value)
        moved.append(Stay(start, start + stay.end_ms - stay.start_ms, stay.task))
    if not _is_in_order(packing, moved):
        return None
    found = packing.copy()
    for key, bundle in packing.bundles.items():
        again = make(packing.catalogue, [moved[stay.task] for stay in bundle.stays], bundle.mask)
        if again is None:
            return None
        found.set(key, again)
    return found if found.cost < packing.cost else None


def _program(packing: Packing, stays: list[Stay]) -> LinearProgram:
    """Times are in seconds; t_i counts from E_i, f_k and l_k from 0."""
    windows, catalogue = packing.windows, packing.catalogue
    begin = [windows.earliest[stay.task] / 1000 for stay in stays]
    takes = [(stay.end_ms - stay.start_ms) / 1000 for stay in stays]
    uppers: list[float | None] = [
        max(0.0, windows.latest[i] / 1000 - takes[i] - begin[i]) for i in range(len(stays))
    ]
    costs = [0.0] * len(stays)
    rows: list[LinearRow] = []

    def after(i: int, j: int) -> None:
        """Adds t_j - t_i >= d_i."""
        lower = takes[i] + begin[i] - begin[j]
        rows.append(LinearRow(columns=(j, i), coefficients=(1.0, -1.0), lower=lower))

    for child, parents in enumerate(catalogue.workload.parents):
        for parent in parents:
            after(parent, child)
    for bundle in packing.bundles.values():
        price = float(catalogue.machines[bundle.machine].price_microusd_per_hour)
        first, last = len(costs), len(costs) + 1
        costs += [-price, price]
        uppers += [None, None]
        for stay in bundle.stays:
            i = stay.task
            rows.append(LinearRow(columns=(i, first), coefficients=(1.0, -1.0), lower=-begin[i]))
            rows.append(
                LinearRow(columns=(last, i), coefficients=(1.0, -1.0), lower=takes[i] + begin[i])
            )
        for before, behind in _followers(bundle.stays):
            after(before, behind)
    return LinearProgram(costs=tuple(costs), uppers=tuple(uppers), rows=tuple(rows))


def _followers(stays: tuple[Stay, ...]) -> list[tuple[int, int]]:
    """Returns the pairs of which one starts once the other has ended, without implied ones."""
    found: list[tuple[int, int]] = []
    for k, behind in enumerate(stays):
        done = [stay for stay in stays[:k] if stay.end_ms <= behind.start_ms]
        newest = max((stay.start_ms for stay in done), default=0)
        found += [(stay.task, behind.task) for stay in done if stay.end_ms > newest]
    return found


def _is_in_order(packing: Packing, moved: list[Stay]) -> bool:
    windows = packing.windows
    for stay in moved:
        if stay.end_ms > windows.latest[stay.task] or stay.start_ms < windows.earliest[stay.task]:
            return False
        for parent in packing.catalogue.workload.parents[stay.task]:
            if moved[parent].end_ms > stay.start_ms:
                return False
    return True
