"""What running tasks say of a runtime: that it is longer than what has passed.

While only the quick ones of a process have ended, its completed tasks are a biased sample. Each
running task counts as one more sample, whose mass goes to what lies beyond its elapsed time, as the
pool has it (Efron's redistribution to the right, of the Kaplan-Meier estimator), or to a few
multiples of it where nothing does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cu_market.pse.models.mixture import Pool, blended

MULTIPLES = np.array([1.1, 1.8, 4.0])
MOST_RUNNING = 64
"""Of more running tasks, so many of evenly spaced elapsed times are looked at."""


def with_running(pool: Pool, elapsed: Sequence[float], completed: float) -> Pool:
    """Returns a runtime's pool with running tasks counted in.

    Args:
        pool: of the completed tasks.
        elapsed: of each running task, in the pool's unit.
        completed: how many tasks the pool counts for.
    """
    informative = np.sort([each for each in elapsed if each > pool.values[0]])
    if not len(informative):
        return pool
    count = len(informative)
    if count > MOST_RUNNING:
        places = np.linspace(0, count - 1, MOST_RUNNING).round().astype(np.intp)
        informative = informative[places]
    each_mass = count / len(informative) / (completed + count)
    beyond = np.searchsorted(pool.values, informative, side="right")
    left = np.append(np.cumsum(pool.masses[::-1])[::-1], 0.0)[beyond]
    inside = left > 1e-12
    # The mass that a point receives: from every running task that it lies beyond.
    gains = np.zeros(len(pool.values) + 1)
    np.add.at(gains, beyond[inside], each_mass / left[inside])
    factor = completed / (completed + count) + np.cumsum(gains)[:-1]
    masses = pool.masses * factor
    kept = Pool(values=pool.values, masses=masses / masses.sum(), time_masses=masses / masses.sum())
    longest = informative[~inside]
    if not len(longest):
        return kept
    points = (longest[:, None] * MULTIPLES).ravel()
    return blended(
        kept, points, np.full(len(points), 1 / len(points)), float(each_mass * len(longest))
    )
