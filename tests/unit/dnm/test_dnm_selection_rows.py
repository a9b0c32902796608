"""Which rows a large selection's program has, and which join it."""

from __future__ import annotations

import random

import numpy as np
import pytest
from dnm_records import HOUR, asks, offers

from cu_market.dnm.programs.growing import Growing
from cu_market.dnm.programs.linear import LinearProgram
from cu_market.dnm.programs.linear_program import LiveProgram
from cu_market.dnm.selection import master as rows_of
from cu_market.dnm.selection.arrays import INFEASIBLE, Selection, tabulate
from cu_market.dnm.selection.master import Master
from cu_market.dnm.selection.multipliers import near, usage


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


def test_a_row_without_a_price_leaves_and_nothing_is_dearer_or_cheaper() -> None:
    selection = crowded()
    master = Master(selection, selection.costs < INFEASIBLE)
    live = master.open(LiveProgram)
    before = live.solve(limit_seconds=600.0)
    reduced = np.empty_like(selection.costs)
    lower = master.price(before, reduced)
    every = list(master.rows)
    master.shrink(live, before)
    count = len(selection.requests)
    duals = dict(zip(every, before.duals[count:], strict=True))
    assert master.rows == [row for row in every if abs(duals[row]) >= rows_of.LEAST_PRICE]
    assert 0 < len(master.rows) < len(every)
    after = live.solve(limit_seconds=600.0)
    assert len(after.duals) == count + len(master.rows)
    assert master.price(after, reduced) == pytest.approx(lower, rel=1e-6)
    gone = [row for row in every if row not in set(master.rows)]
    everyone = [master.exceeded([{b: 1.0}] * count) for b in range(len(selection.bids))]
    missed = {row for rows in everyone for row in rows}
    assert missed
    assert missed <= set(gone)  # what is still there does not join again
    master.grow(live, gone, np.zeros_like(master.wanted))
    assert sorted(master.rows) == sorted(every)
    again = live.solve(limit_seconds=600.0)
    assert master.price(again, reduced) == pytest.approx(lower, rel=1e-6)
    assert not master.exceeded(master.shares(again))


def test_pairs_join_a_program_that_is_built_with_few() -> None:
    selection = crowded()
    wanted = selection.costs < INFEASIBLE
    sizes: list[int] = []

    def opened(program: LinearProgram) -> Growing:
        sizes.append(len(program.costs))
        return LiveProgram(program)

    found = []
    for built in (None, near(selection.costs, 2)):
        master = Master(selection, wanted, built=built)
        answer = master.open(opened).solve(limit_seconds=600.0)
        found.append(master.price(answer, np.empty_like(selection.costs)))
        shares = master.shares(answer)
        paid = sum(
            share * int(selection.costs[i, b])
            for i, row in enumerate(shares)
            for b, share in row.items()
        )
        paid += sum(
            (1 - sum(row.values())) * int(penalty)
            for row, penalty in zip(shares, selection.penalties, strict=True)
        )
        assert paid == pytest.approx(found[-1], rel=1e-6)
    assert sizes == [int(wanted.sum()) + 60, 2 * 60 + 60]
    assert found[0] == pytest.approx(found[1], rel=1e-6)
