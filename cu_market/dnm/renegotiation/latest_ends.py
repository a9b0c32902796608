"""By when the steps that wait are to end, so that what is uncertain fits in before the deadline.

D is the deadline, d_i a forecast median, s_i its spread; A_i is the longest path after step i, and
sd_i the deviation of the path from i on (``margins``). E_i is the earliest start by the graph
alone, and V_i its variance, along the path that a step waits for. Then

    L_i = max(E_i + d_i, D - A_i - DUE_Z sd_i, J_i)

So what has no time to spare is to end as soon as it can. But a child may have to wait for another
parent in any case, and until then a step has time too:

    J_i = min over children c of   T_c - d_c - sqrt(W_c + (JOIN_Z s_i d_i)^2)

T_c = L_c and W_c = z^2 V_c, with z = ANCHOR_Z, or LATE_ANCHOR_Z where by forecast not even the
deadline leaves c so much time: a forecast that says "late" may be wrong, and then every wait would
have been. Where J_c decides over L_c, T_c and W_c are the terms of its minimum, so that what is
uncertain adds up along a path as variances do. A step that something outside of the plan waits for
ends by its own latest end, if it can. Without J_i all that comes before one long last step
is bought room at once, since nothing is in time for its margin: 0007 has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cu_market.dnm.renegotiation.margins import margins_ms
from cu_market.dnm.renegotiation.remaining import Spread
from cu_market.dnm.schedule.packing import Windows
from cu_market.dnm.schedule.seeds import tails
from cu_market.dnm.schedule.workload import Workload

DUE_Z = 4.0
"""By so many standard deviations of what is left on its path, a step is to end sooner."""

JOIN_Z = 3.0
"""By so many of its own, sooner than a child starts that waits for another step in any case."""

ANCHOR_Z = 0.5
"""By so many of that other step's end, where the deadline leaves time for it."""

LATE_ANCHOR_Z = 1.2
"""By so many, where it does not."""


class LatestEnds:
    """Says at any moment of one run by when its waiting steps are to end.

    Args:
        workload: all of the run, with forecast medians and its deadline.
        spreads: of durations about them, by step; exact where not given.
    """

    def __init__(self, workload: Workload, spreads: Mapping[str, Spread]) -> None:
        takes = [task.duration_ms for task in workload.tasks]
        tail = tails(workload, takes)
        names = [task.task_id for task in workload.tasks]
        self._sd_ms = {
            name: spreads.get(name, Spread()).sigma * d
            for name, d in zip(names, takes, strict=True)
        }
        self._at_the_latest = {
            name: workload.deadline_ms - (t - d)
            for name, t, d in zip(names, tail, takes, strict=True)
        }
        margins = margins_ms(workload, takes, spreads, z=DUE_Z)
        self._by_margin = {
            name: self._at_the_latest[name] - margin
            for name, margin in zip(names, margins, strict=True)
        }

    def at(
        self, now_ms: int, rest: Workload, takes: Sequence[int], ends: Mapping[int, int]
    ) -> Windows:
        """Returns each step's E_i and L_i, by number; of those that do not wait, now and 0.

        Args:
            now_ms: after the run's start, as every other time.
            rest: what is left, with steps by their names.
            takes: d_i of its tasks, by number.
            ends: expected, of those that do not wait.
        """
        names = [task.task_id for task in rest.tasks]
        earliest, soonest, variance = _forward(now_ms, rest, takes, ends, self._sd_ms)
        latest = [0] * len(takes)
        anchors: dict[int, _Anchor] = {}
        for i in reversed(rest.order):
            if i in ends:
                continue
            name = names[i]
            latest[i] = max(soonest[i], self._by_margin[name])
            z = LATE_ANCHOR_Z if soonest[i] > self._at_the_latest[name] else ANCHOR_Z
            anchors[i] = _Anchor(latest[i], z**2 * variance[i])
            own = (JOIN_Z * self._sd_ms[name]) ** 2
            joins = [anchors[c].before(takes[c], own) for c in rest.children[i]]
            join = min(joins, key=_Anchor.less_margin, default=anchors[i])
            if join.less_margin() > latest[i]:
                latest[i], anchors[i] = join.less_margin(), join
            own_latest = rest.tasks[i].latest_finish_ms
            if own_latest is not None and own_latest < latest[i]:
                latest[i] = max(soonest[i], own_latest)
                anchors[i] = _Anchor(latest[i], 0.0)
        return Windows(earliest=tuple(earliest), latest=tuple(latest))


class _Anchor(NamedTuple):
    """What steps before it are held to: T and W."""

    target_ms: int
    width: float

    def before(self, takes_ms: int, width: float) -> _Anchor:
        """Returns what holds a parent of a step that takes so long."""
        return _Anchor(self.target_ms - takes_ms, self.width + width)

    def less_margin(self) -> int:
        """T - sqrt(W)."""
        return round(self.target_ms - math.sqrt(self.width))


def _forward(
    now_ms: int,
    rest: Workload,
    takes: Sequence[int],
    ends: Mapping[int, int],
    sd_ms: Mapping[str, float],
) -> tuple[list[int], list[int], list[float]]:
    """Returns E_i, E_i + d_i and V_i. What runs errs by as much as its forecast, or by what is left
    of it where that is less."""
    earliest, soonest = [now_ms] * len(takes), [0] * len(takes)
    variance, of_end = [0.0] * len(takes), [0.0] * len(takes)
    for i in rest.order:
        task, parents = rest.tasks[i], rest.parents[i]
        own = sd_ms.get(task.task_id, 0.0)
        if i in ends:
            soonest[i] = ends[i]
            of_end[i] = float(min(own, max(0, ends[i] - now_ms))) ** 2
            continue
        earliest[i] = max([now_ms, task.earliest_start_ms, *(soonest[p] for p in parents)])
        soonest[i] = earliest[i] + takes[i]
        last = max(parents, key=lambda p: (soonest[p], p), default=None)
        if last is not None and soonest[last] == earliest[i]:
            variance[i] = of_end[last]
        of_end[i] = variance[i] + own**2
    return earliest, soonest, variance
