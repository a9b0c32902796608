"""Protocols, ladders and rules once more: slowly, from their definitions, sharing no code.

Plain lists and dictionaries of a CSV's rows; scikit-learn's own split; every ladder by trying all.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean, pstdev

Row = dict[str, float]
Sizes = Callable[[Row, list[Row]], list[float]]
"""From a task and the completed ones of its process to the sizes to try."""

GBH = 1e9 * 3_600_000


def read_rows(path: Path) -> dict[str, list[Row]]:
    """Every row's figures by process, NaN where there is none; ``row`` is its line."""
    found: dict[str, list[Row]] = defaultdict(list)
    with path.open(newline="") as file:
        for line, cells in enumerate(csv.DictReader(file)):
            names = ("rchar", "rss", "peak_rss", "realtime", "memory", "start", "complete")
            found[cells["process"]].append(
                {"row": line} | {name: _number(cells[name]) for name in names}
            )
    return dict(found)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def waste(sizes: Sequence[float], peak: float, time: float, ttf: float) -> tuple[float, int]:
    """GB·h and failed attempts of trying the sizes, the last one doubled for ever."""
    lost, failed, place = 0.0, 0, 0
    size = sizes[0]
    while size < peak:
        lost += ttf * size * time
        failed += 1
        place += 1
        size = sizes[place] if place < len(sizes) else size * 2
    return (lost + (size - peak) * time) / GBH, failed


def warm(rows: dict[str, list[Row]], sizes: Sizes, seed: int, ttf: float) -> tuple[float, int]:
    """The published protocol, with scikit-learn's split."""
    from sklearn.model_selection import train_test_split

    total, failures = 0.0, 0
    for tasks in rows.values():
        kept = [task for task in tasks if task["rss"] > 0]
        if len(kept) < 34 or any(task["realtime"] == 0 for task in kept):
            continue
        before, after = train_test_split(kept, test_size=0.7, random_state=seed)
        past = [task | {"y": task["rss"]} for task in before]
        for task in after:
            lost, failed = waste(sizes(task, past), task["rss"], task["realtime"], ttf)
            total, failures = total + lost, failures + failed
            past.append(task | {"y": task["rss"]})
    return total, failures


def cold(rows: dict[str, list[Row]], sizes: Sizes, ttf: float) -> tuple[float, int]:
    """From nothing: for each task, all those of its process that had completed by its start."""
    total, failures = 0.0, 0
    for tasks in rows.values():
        kept = [task | {"y": task["peak_rss"]} for task in tasks if task["peak_rss"] > 0]
        for task in kept:
            past = [other for other in kept if other["complete"] <= task["start"] and
                    (other["start"], other["row"]) < (task["start"], task["row"])]  # fmt: skip
            past.sort(key=lambda other: (other["complete"], other["row"]))
            lost, failed = waste(sizes(task, past), task["y"], task["realtime"], ttf)
            total, failures = total + lost, failures + failed
    return total, failures


def presets(task: Row, past: list[Row]) -> list[float]:
    return [task["memory"]]


def max_1_1(task: Row, past: list[Row]) -> list[float]:
    return [1.1 * max(other["y"] for other in past)] if past else [task["memory"]]


def max_1_1_after_3(task: Row, past: list[Row]) -> list[float]:
    if len(past) < 3:
        return [task["memory"]]
    size = 1.1 * max(other["y"] for other in past)
    return [size, task["memory"]] if task["memory"] > size else [size]


def percentile_95(task: Row, past: list[Row]) -> list[float]:
    if not past:
        return [task["memory"]]
    rising = sorted(other["y"] for other in past)
    place = 0.95 * (len(rising) - 1)
    low = math.floor(place)
    high = min(low + 1, len(rising) - 1)
    return [rising[low] + (place - low) * (rising[high] - rising[low])]


def witt_lr(task: Row, past: list[Row]) -> list[float]:
    if not past:
        return [task["memory"]]
    x = [_bytes(other) for other in past]
    y = [other["y"] for other in past]
    mean_x, mean_y = fmean(x), fmean(y)
    spread = sum((each - mean_x) ** 2 for each in x)
    moved = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    slope = moved / spread if spread else 0.0
    sigma = pstdev([b - mean_y - slope * (a - mean_x) for a, b in zip(x, y, strict=True)])
    return [max(mean_y + slope * (_bytes(task) - mean_x) + sigma, min(y))]


def _bytes(task: Row) -> float:
    return 0.0 if math.isnan(task["rchar"]) else task["rchar"]


def tovar_ppm(task: Row, past: list[Row]) -> list[float]:
    if not past:
        return [task["memory"]]
    top = max(other["y"] for other in past)

    def cost(size: float) -> float:
        return sum(
            (size + (top if other["y"] > size else 0.0)) * other["realtime"] for other in past
        )

    best = min(sorted({other["y"] for other in past}), key=cost)
    return [best, top] if top > best else [best]


def expected_cost(
    ladder: Sequence[float],
    support: Sequence[float],
    weights: Sequence[float],
    *,
    ttf: float,
    delay: float,
    price: float,
    masses: Sequence[float],
) -> float:
    """What a ladder costs over a distribution, point by point."""
    total = 0.0
    for value, weight, mass in zip(support, weights, masses, strict=True):
        for size in ladder:
            if size >= value:
                total += weight * (size - value)
                break
            total += weight * (ttf * size + delay) + mass * price
    return total


def every_ladder(support: Sequence[float]) -> Iterator[tuple[float, ...]]:
    """Every rising choice of support points that ends with the largest."""
    *lower, top = support
    for length in range(len(lower) + 1):
        for chosen in combinations(lower, length):
            yield (*chosen, top)
