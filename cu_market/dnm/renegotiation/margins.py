"""Ends by which steps are planned, so that a path's own uncertainty fits in before the deadline.

    sd_i^2 = sum of (s_j d_j)^2 along the longest path from step i on
    L_i    = max(E_i + d_i + tolerance, D - A_i - MARGIN_Z sd_i)

E_i is the earliest start by the graph alone, d_i the forecast, A_i the longest path after i, D the
deadline. What cannot end by its margin is due as soon as the graph allows: a forecast that says
"late" may be wrong, and then every wait would have been.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cu_market.dnm.renegotiation.remaining import Spread
from cu_market.dnm.schedule.packing import windows
from cu_market.dnm.schedule.seeds import tails
from cu_market.dnm.schedule.workload import Workload

MARGIN_Z = 2.0
"""By so many standard deviations of what is left on its path, a step is to end sooner. Replays of
eight recorded workflows at a forecast error of 0.3, deadline factor 1.0, with planned places: mean
finish 2.0 % late where only reviews keep it, 0.7 % where the plan does too; at 1.0 it is 2.2 %.
Where what is left is planned anew (``replan``, which has margins of its own: ``latest_ends``) it
matters less: at 0, 1 and 2 one of them cost 1.073, 1.072 and 1.072 of its exact plan, on time."""

TOLERANCE_RATIO = 0.01
"""Of the time that is left, a step may end later than that before anything is moved for it."""


def margins_ms(
    workload: Workload, takes: Sequence[int], spreads: Mapping[str, Spread], z: float = MARGIN_Z
) -> list[int]:
    """Returns z sd_i of each step."""
    tail = tails(workload, takes)
    variance = [0.0] * len(takes)
    for i in reversed(workload.order):
        longest = max(workload.children[i], key=lambda c: (tail[c], c), default=None)
        sigma = spreads.get(workload.tasks[i].task_id, Spread()).sigma
        beyond = 0.0 if longest is None else variance[longest]
        variance[i] = (sigma * takes[i]) ** 2 + beyond
    return [round(z * math.sqrt(v)) for v in variance]


def with_margins(workload: Workload, spreads: Mapping[str, Spread]) -> Workload:
    """Returns the workload with each step's latest end; exact forecasts that fit change nothing.

    The deadline gives way to the earliest end that the forecasts allow.
    """
    takes = [task.duration_ms for task in workload.tasks]
    earliest, tail = windows(workload, takes).earliest, tails(workload, takes)
    longest = max((e + t for e, t in zip(earliest, tail, strict=True)), default=0)
    if longest <= workload.deadline_ms and not spreads:
        return workload
    margins = margins_ms(workload, takes, spreads)
    tasks = tuple(
        replace(task, latest_finish_ms=max(e + d, workload.deadline_ms - (t - d) - m))
        for task, e, d, t, m in zip(workload.tasks, earliest, takes, tail, margins, strict=True)
    )
    return replace(workload, tasks=tasks, deadline_ms=max(workload.deadline_ms, longest))
