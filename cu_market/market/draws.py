"""Times of steps as they may turn out: cases, in each of which every step's is drawn once.

A step's time is lognormal through its forecast's median and 95th percentile, whatever CU it is on,
and independent of the others'; one without a forecast's spread takes its expected time in all
cases. The draws of one step are one out of each of as many equally likely slices (a Latin
hypercube: McKay, Beckman, Conover 1979), so that of a single step the quantiles are exact. Plans of
the same requests are walked with the same cases: what differs between two is the plans.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from functools import lru_cache
from statistics import NormalDist

from cu_market.domain.request import ResourceRequest

MOST_CASES, LEAST_CASES = 1000, 100

DRAWS = 50_000
"""In all: what a plan of fifty steps takes with all cases; larger ones have fewer."""

MEDIAN_PERMILLE = 500

Z95 = 1.6448536269514722
"""The standard normal's 95th percentile."""


class Cases:
    """Drawn times of requests.

    Args:
        requests: in an order that stays: draws follow it, not the names.
        seed: equal ones give equal draws.

    Attributes:
        count: of the cases; one where nothing is known to spread.
    """

    def __init__(self, requests: Sequence[ResourceRequest], *, seed: int = 0) -> None:
        self._sigmas = {request.request_id: _sigma(request) for request in requests}
        many = max(LEAST_CASES, min(MOST_CASES, DRAWS // max(1, len(requests))))
        self.count = many if any(self._sigmas.values()) else 1
        self._number = {name: number for number, name in enumerate(self._sigmas)}
        self._seed = seed
        self._factors: dict[str, Sequence[float]] = {}

    def takes_ms(self, request_id: str, expected_ms: int) -> Sequence[float]:
        """Returns what a request takes in each case where it is expected to take so long."""
        if not self._sigmas[request_id]:
            return [float(expected_ms)] * self.count
        if request_id not in self._factors:
            self._factors[request_id] = self._drawn(request_id)
        return [expected_ms * factor for factor in self._factors[request_id]]

    def _drawn(self, request_id: str) -> Sequence[float]:
        sigma, slices = self._sigmas[request_id], _slices(self.count)
        draws = random.Random(f"{self._seed}:{self._number[request_id]}")
        return [math.exp(sigma * z) for z in draws.sample(slices, len(slices))]


def are_unsure(requests: Iterable[ResourceRequest]) -> bool:
    """Whether the time of any of them is known to spread."""
    return any(_sigma(request) for request in requests)


def quantile(values: Iterable[float], permille: int) -> int:
    """Returns the least value that so many thousandths of them do not pass, rounded up."""
    ordered = sorted(values)
    return math.ceil(ordered[max(0, -(-permille * len(ordered) // 1000) - 1)])


def _sigma(request: ResourceRequest) -> float:
    quantiles = request.duration_quantiles_ms
    if quantiles is None or quantiles.p50 <= 0 or quantiles.p95 <= quantiles.p50:
        return 0.0
    return math.log(quantiles.p95 / quantiles.p50) / Z95


@lru_cache(maxsize=8)
def _slices(count: int) -> tuple[float, ...]:
    """Returns the middles of so many equally likely slices of the standard normal."""
    normal = NormalDist()
    return tuple(normal.inv_cdf((k + 0.5) / count) for k in range(count))
