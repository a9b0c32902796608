"""A distribution as a small sorted sample with weights."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cu_market.domain.problem import require
from cu_market.domain.request import Quantiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A weighted sample of amounts, in the unit its user names.

    Attributes:
        values: rising amounts, none negative; at least one.
        weights: each value's weight, above 0; only their ratios count.
    """

    values: tuple[int, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        values = self.values
        require(
            bool(values) and values[0] >= 0 and list(values) == sorted(values),
            "Distribution.values",
            values,
            "empty, negative or not rising",
            "sort it",
        )
        require(
            len(values) == len(self.weights) and all(w > 0 for w in self.weights),
            "Distribution.weights",
            self.weights,
            "not one weight above 0 for each value",
            "give one for each",
        )

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, float]]) -> Distribution:
        """Returns the distribution of (value, weight) pairs, in any order."""
        ordered = sorted(pairs)
        return cls(values=tuple(v for v, _ in ordered), weights=tuple(w for _, w in ordered))

    @property
    def largest(self) -> int:
        """The largest value."""
        return self.values[-1]

    @property
    def effective_size(self) -> float:
        """How many equal weights know as much (Kish): (sum w)^2 / sum w^2."""
        return sum(self.weights) ** 2 / sum(w * w for w in self.weights)

    @property
    def mean(self) -> float:
        """The weighted mean."""
        total = sum(w * v for v, w in zip(self.values, self.weights, strict=True))
        return total / sum(self.weights)

    def quantile(self, ratio: float) -> int:
        """Returns the smallest value with at least this share of the weight at or below it.

        Args:
            ratio: 0 to 1.
        """
        cumulative = _cumulate(self.weights)
        # A hair is taken off, so that a half of ten times 0.1 is a half.
        place = bisect_left(cumulative, ratio * cumulative[-1] * (1 - 1e-12))
        return self.values[min(place, len(self.values) - 1)]

    def share_above(self, amount: int) -> float:
        """Returns the share of the weight on values above an amount."""
        above = sum(w for v, w in zip(self.values, self.weights, strict=True) if v > amount)
        return above / sum(self.weights)

    def quantiles(self) -> Quantiles:
        """Returns p10, p50 and p95."""
        return Quantiles(p10=self.quantile(0.1), p50=self.quantile(0.5), p95=self.quantile(0.95))

    def with_tail(self, headroom_ratio: float) -> Distribution:
        """Returns this with what a small sample has not shown yet put above its largest value.

        Of n exchangeable amounts and one more, the new one is the largest with probability
        1 / (n + 1): that mass goes, in two halves, to half of and all of the headroom above.

        Args:
            headroom_ratio: how far above the largest value the tail reaches, 0.2 for 20 %.
        """
        mass = sum(self.weights) / self.effective_size / 2
        reach = (1 + headroom_ratio / 2, 1 + headroom_ratio)
        tail = tuple(round(self.largest * factor) for factor in reach)
        return Distribution(
            values=(*self.values, *(max(self.largest, v) for v in tail)),
            weights=(*self.weights, mass, mass),
        )


def _cumulate(weights: Sequence[float]) -> list[float]:
    total, sums = 0.0, []
    for weight in weights:
        total += weight
        sums.append(total)
    return sums
