"""A CU's performance score, from what it was measured to deliver."""

from __future__ import annotations

from collections.abc import Sequence

PRIOR_MILLIS = 1000
"""A CU that nobody has measured is taken to be as fast as the reference machine."""

PRIOR_WEIGHT = 3
"""How many measurements that belief is worth."""

RECENCY_RATIO = 0.97
"""Each measurement weighs this much of the next newer one: 33 of them at most, in all."""

LOWEST_MILLIS, HIGHEST_MILLIS = 100, 1500


def performance_millis(delivered: Sequence[int]) -> int:
    """Returns a CU's speed in thousandths of the reference's, 100 to 1500.

    (prior_weight x 1000 + sum of w_i d_i) / (prior_weight + sum of w_i), w_i = 0.97^i.

    Args:
        delivered: its Measurement.delivered_millis, newest first.
    """
    weights = [RECENCY_RATIO**age for age in range(len(delivered))]
    known = sum(w * d for w, d in zip(weights, delivered, strict=True))
    score = (PRIOR_WEIGHT * PRIOR_MILLIS + known) / (PRIOR_WEIGHT + sum(weights))
    return min(HIGHEST_MILLIS, max(LOWEST_MILLIS, round(score)))
