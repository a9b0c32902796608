"""Which rows a large selection's program has, and which join it."""

from __future__ import annotations

import random

import numpy as np
import pytest
from dnm_records import HOUR, asks, offers

from cu_market.dnm.selection import master as rows_of
from cu_market.dnm.selection.arrays import INFEASIBLE, Selection, tabulate
from cu_market.dnm.selection.master import Master
from cu_market.dnm.selection.multipliers import usage


def crowded() -> Selection:
    """60 requests within an hour; all of them want the cheapest of four bids."""
    draws = random.Random(3)
    requests = [
        asks(
            f"r{n:02d}",
            cores=draws.choice([1, 2]),
            duration_ms=draws.randrange(HOUR // 60, HOUR // 4),
            earliest_start_ms=draws.randrange(0, HOUR, HOUR // 60),
        )
        for n in range(60)
    ]
    bids = [offers(f"b{n}", 10_000 * (n + 1), cores=4, bid={"quantity": 2}) for n in range(4)]
    return tabulate(requests, bids, {})


def test_rows_join_at_the_peaks_of_what_is_exceeded_the_worst_first() -> None:
    selection = crowded()
    cheapest = selection.costs.argmin(axis=1)
    master = Master(selection, selection.costs < INFEASIBLE, np.zeros_like(selection.limits))
    assert master.rows == []
    shares = [{int(b): 1.0} for b in cheapest]
    over = usage(selection, cheapest) - selection.limits
    found = master.exceeded(shares)
    assert found
    last = selection.limits.shape[1] - 1
    for room in {room for room, _ in found}:
        expected = [
            t
            for t, value in enumerate(over[room].tolist())
            if value > 0
            and (t == 0 or value >= over[room, t - 1])
            and (t == last or value > over[room, t + 1])
        ]
        expected.sort(key=lambda t: (-over[room, t], t))
        assert [t for r, t in found if r == room] == expected[: rows_of.WORST_ROWS]


def test_of_many_rows_with_a_price_some_are_there_from_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    selection = crowded()
    wanted, prices = selection.costs < INFEASIBLE, np.ones(selection.limits.shape, dtype=np.int64)
    every = Master(selection, wanted, prices).rows
    monkeypatch.setattr(rows_of, "FIRST_ROWS", 10)
    some = Master(selection, wanted, prices).rows
    assert len(every) > 20
    assert 10 <= len(some) < 20
    assert set(some) < set(every)
    assert Master(selection, wanted).rows == every
