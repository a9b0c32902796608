"""Chooses a schedule anew among the CUs of all good schedules that the search has seen.

Sets
    i in I            tasks
    k in K            CUs that were seen: a set of tasks with their starts, on the cheapest type

Parameters
    c_k               bill of k
    s_ik, e_ik        start and end of i on k

Variables
    x_k               binary: k is had

Objective
    min  sum_k c_k x_k

Constraints
    once              sum_{k: i in k} x_k = 1                                   for each i
    precedence        sum_{k: c in k} s_ck x_k >= sum_{k: p in k} e_pk x_k      for each p before c

Each task has one CU, so the sums are its start and end. The idea is that of Rochat and Taillard,
"Probabilistic diversification and intensification in local search for vehicle routing", 1995.
"""

from __future__ import annotations

from collections.abc import Sequence

from cu_market.dnm.programs.linear import LinearProgram, LinearRow, LinearSolver
from cu_market.dnm.schedule.bundle import Bundle
from cu_market.dnm.schedule.packing import Packing, empty

LEAST_VALUE = 0.5


def recombined(
    packing: Packing, pool: Sequence[Bundle], solver: LinearSolver, *, limit_seconds: float
) -> Packing | None:
    """Returns a cheaper schedule out of the pool's CUs, or None.

    Args:
        packing: the best known; complete; its CUs are added to the pool.
        pool: CUs that were seen.
        solver: its values are rounded, and the choice checked, before they are used.
        limit_seconds: of the solver.
    """
    catalogue = packing.catalogue
    if any(m.quantity is not None for m in catalogue.machines):
        return None  # units would need rows over time
    own = list(packing.bundles.values())
    known = {bundle.stays for bundle in own}
    columns = [*own, *(bundle for bundle in pool if bundle.stays not in known)]
    answer = solver.solve_linear(
        _program(packing, columns, len(own)), limit_seconds=limit_seconds, gap=1e-4
    )
    if len(answer.values) != len(columns):
        return None
    chosen = [b for b, x in zip(columns, answer.values, strict=True) if x > LEAST_VALUE]
    found = empty(catalogue)
    for bundle in chosen:
        if any(found.where[stay.task] >= 0 for stay in bundle.stays):
            return None
        found.set(-1, bundle)
    if min(found.where, default=0) < 0 or found.cost >= packing.cost:
        return None
    return found if _is_in_order(found) else None


def _program(packing: Packing, columns: Sequence[Bundle], own: int) -> LinearProgram:
    """Times in seconds."""
    workload = packing.catalogue.workload
    starts: list[list[tuple[int, float]]] = [[] for _ in workload.tasks]
    ends: list[list[tuple[int, float]]] = [[] for _ in workload.tasks]
    for k, bundle in enumerate(columns):
        for stay in bundle.stays:
            starts[stay.task].append((k, stay.start_ms / 1000))
            ends[stay.task].append((k, stay.end_ms / 1000))
    rows = [
        LinearRow(
            columns=tuple(k for k, _ in hosts),
            coefficients=(1.0,) * len(hosts),
            lower=1.0,
            upper=1.0,
        )
        for hosts in starts
    ]
    for child, parents in enumerate(workload.parents):
        for parent in parents:
            if max(e for _, e in ends[parent]) <= min(s for _, s in starts[child]):
                continue  # holds whichever CUs are chosen
            joint: dict[int, float] = dict(starts[child])
            for k, end in ends[parent]:
                joint[k] = joint.get(k, 0.0) - end
            rows.append(
                LinearRow(columns=tuple(joint), coefficients=tuple(joint.values()), lower=0.0)
            )
    return LinearProgram(
        costs=tuple(float(bundle.cost) for bundle in columns),
        uppers=(1.0,) * len(columns),
        rows=tuple(rows),
        integers=tuple(range(len(columns))),
        incumbent=tuple((k, 1.0) for k in range(own)),
    )


def _is_in_order(packing: Packing) -> bool:
    for child, parents in enumerate(packing.catalogue.workload.parents):
        stay = packing.stays[child]
        for parent in parents:
            before = packing.stays[parent]
            if stay is None or before is None or before.end_ms > stay.start_ms:
                return False
    return True
