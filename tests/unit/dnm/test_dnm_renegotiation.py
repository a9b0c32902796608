from __future__ import annotations

import math
import random
from statistics import fmean, pstdev

import pytest

from cu_market.dnm.renegotiation import (
    MAX_MOVES,
    HeldCU,
    Place,
    Review,
    Spread,
    left_ms,
    pooled,
    weigh,
    with_margins,
)
from cu_market.dnm.schedule import MachineType, Task, Workload

SMALL = MachineType(
    name="small", cpu_millis=1000, memory_bytes=2**30, price_microusd_per_hour=3_600_000
)


def chain(*, deadline_ms: int) -> Workload:
    """a, then b and c side by side."""
    tasks = (
        Task(task_id="a", duration_ms=100_000),
        Task(task_id="b", duration_ms=50_000, parents=("a",)),
        Task(task_id="c", duration_ms=80_000, parents=("a",)),
    )
    return Workload(tasks=tasks, machines=(SMALL,), deadline_ms=deadline_ms)


def on(cu_id: str, start_ms: int) -> Place:
    return Place(cu_id=cu_id, machine="small", start_ms=start_ms)


HELD = [HeldCU(cu_id="cu", machine="small", stays=(("a", 0, 100_000),))]
PLACES = {"c": on("cu", 100_000), "b": on("cu", 180_000)}


def test_a_step_that_would_end_late_moves_and_the_others_keep_their_place() -> None:
    found = Review(chain(deadline_ms=180_000)).revise(
        100_000, HELD, {"a": 100_000}, PLACES, moves_made={}
    )
    assert found.moved == ("b",)
    assert found.places["c"] == on("cu", 100_000)
    assert found.places["b"].start_ms == 100_000
    assert (found.stays_ms, found.moved_ms) == (230_000, 180_000)
    # A CU of its own for 50 s, beside "cu" which ends 50 s sooner: no dearer at no start-up.
    assert found.added_microusd == 0


def test_nothing_moves_where_the_deadline_has_room_or_the_moves_are_used_up() -> None:
    roomy = Review(chain(deadline_ms=240_000))
    assert roomy.revise(100_000, HELD, {"a": 100_000}, PLACES, moves_made={}).moved == ()
    tight = Review(chain(deadline_ms=180_000))
    stuck = {"b": MAX_MOVES, "c": MAX_MOVES}
    found = tight.revise(100_000, HELD, {"a": 100_000}, PLACES, moves_made=stuck)
    assert found.moved == ()
    assert found.places["b"].start_ms == 180_000


def test_a_step_whose_cu_is_gone_moves_whatever_its_budget() -> None:
    found = Review(chain(deadline_ms=400_000)).revise(
        100_000,
        HELD,
        {"a": 100_000},
        PLACES | {"b": on("gone", 180_000)},
        moves_made={"b": MAX_MOVES},
        must_move=("b",),
    )
    assert found.moved == ("b",)
    assert found.places["b"].cu_id != "gone"


def test_a_running_step_that_is_late_pushes_what_waits_for_it() -> None:
    found = Review(chain(deadline_ms=500_000)).revise(
        150_000,
        [HeldCU(cu_id="cu", machine="small", stays=(("a", 0, 190_000),))],
        {"a": 190_000},
        PLACES,
        moves_made={},
    )
    assert found.places["c"].start_ms == 190_000
    assert found.places["b"].start_ms == 270_000


def test_margins_grow_with_the_path_and_vanish_with_the_spread() -> None:
    work = chain(deadline_ms=400_000)
    assert with_margins(work, {}) is work
    spreads = {task.task_id: Spread(sigma=0.3) for task in work.tasks}
    latest = {t.task_id: t.latest_finish_ms for t in with_margins(work, spreads).tasks}
    assert latest["b"] == 400_000 - round(2 * 0.3 * 50_000)
    assert latest["a"] == 400_000 - 80_000 - round(2 * 0.3 * math.hypot(100_000, 80_000))
    late = with_margins(chain(deadline_ms=1000), {})
    assert late.deadline_ms == 180_000
    assert [task.latest_finish_ms for task in late.tasks] == [100_000, 150_000, 180_000]


@pytest.mark.parametrize(("ran", "sigma"), [(0.0, 0.3), (0.7, 0.3), (1.0, 0.3), (2.0, 0.5)])
def test_what_is_left_is_the_mean_of_the_truncated_lognormal(ran: float, sigma: float) -> None:
    draws = random.Random(1)
    beyond = [x - ran for x in (draws.lognormvariate(0, sigma) for _ in range(400_000)) if x > ran]
    assert left_ms(1.0, ran, Spread(sigma=sigma)) == pytest.approx(fmean(beyond), rel=0.03)


def test_what_is_left_never_falls_below_nothing() -> None:
    assert left_ms(100, 150, Spread()) == 0
    assert left_ms(100, 60, Spread()) == 40
    assert 0 < left_ms(1, 1e9, Spread(sigma=0.1)) < 1e9
    assert Spread.from_band(100, 150).p95_ratio() == pytest.approx(1.5)


def test_forecasts_of_equal_steps_are_drawn_together_and_of_unequal_ones_hardly() -> None:
    draws, sigma = random.Random(2), 0.3
    equal = {f"e{k}": 100.0 * draws.lognormvariate(0, sigma) for k in range(200)}
    unequal = {f"u{k}": 100.0 * draws.lognormvariate(0, 2.0) for k in range(200)}
    kinds = {step: step[0] for step in (*equal, *unequal)}
    found = pooled(equal | unequal | {"only": 7.0}, kinds, sigma)
    assert pstdev(math.log(found[s][0]) for s in equal) < 0.1
    assert found["e0"][1].sigma < 0.1
    assert all(found[s][0] == pytest.approx(m, rel=0.2) for s, m in unequal.items())
    assert found["only"] == (pytest.approx(7.0), Spread(sigma=sigma))


def test_one_wrong_forecast_of_many_is_noise_and_not_its_kind() -> None:
    kinds = {f"s{k}": "s" for k in range(20)}
    found = pooled(dict.fromkeys(kinds, 100.0) | {"s3": 180.0}, kinds, 0.3)
    assert found["s3"][0] < 110
    assert pooled({"s1": 5.0, "s2": 9.0}, kinds, 0.0)["s2"][0] == pytest.approx(9.0)


def test_moving_needs_a_saving_or_a_run_that_ends_sooner() -> None:
    def told(present: int, moved: int, stays: int, then: int, latest: int | None) -> bool:
        return weigh(
            present_microusd=present,
            moved_microusd=moved,
            stays_ms=stays,
            moved_ms=then,
            latest_ms=latest,
        ).is_worth_it

    assert told(1000, 899, 10, 10, None)
    assert not told(1000, 900, 10, 10, None)
    assert told(0, 500, 2000, 1900, 1000)
    assert not told(0, 500, 2000, 1990, 1000)
    assert not told(0, 500, 2000, 1900, 2000)
