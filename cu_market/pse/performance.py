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

PRIOR_KEPT, PRIOR_BROKEN = 19, 1
"""A Beta prior of promises: nobody is believed to keep all of them."""


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


def score_millis(delivered: Sequence[int], kept: Sequence[bool]) -> int:
    """Returns a CU's performance score in thousandths: its speed times how it keeps promises.

    speed x min(1, posterior / prior), where posterior = (a + sum of w_i k_i) / (a + b + sum of w_i)
    is the mean of a Beta distribution whose evidence decays (w_i = 0.97^i). A CU that breaks one
    promise in ten is worth a tenth less; one of which nothing is known, its prior speed.

    Args:
        delivered: its Measurement.delivered_millis, newest first.
        kept: whether it saw each attempt to its end, newest first; an attempt's own error, or its
            being too large, is no promise broken.
    """
    weights = [RECENCY_RATIO**age for age in range(len(kept))]
    good = PRIOR_KEPT + sum(w for w, k in zip(weights, kept, strict=True) if k)
    posterior = good / (PRIOR_KEPT + PRIOR_BROKEN + sum(weights))
    share = min(1.0, posterior * (PRIOR_KEPT + PRIOR_BROKEN) / PRIOR_KEPT)
    return max(LOWEST_MILLIS, round(performance_millis(delivered) * share))
