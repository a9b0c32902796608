"""By when steps are to end, so that what is uncertain fits in before the deadline."""

from __future__ import annotations

import math

from cu_market.dnm.renegotiation.latest_ends import (
    ANCHOR_Z,
    DUE_Z,
    JOIN_Z,
    LATE_ANCHOR_Z,
    LatestEnds,
)
from cu_market.dnm.renegotiation.remaining import Spread
from cu_market.dnm.schedule import MachineType, Task, Workload

ANY = MachineType(name="any", cpu_millis=1000, memory_bytes=2**30, price_microusd_per_hour=1)

LONG, SHORT, LAST = 100_000, 20_000, 50_000


def task(name: str, duration_ms: int, *parents: str) -> Task:
    return Task(task_id=name, duration_ms=duration_ms, parents=parents)


JOIN = (task("long", LONG), task("short", SHORT), task("last", LAST, "long", "short"))


def latest(
    *tasks: Task,
    deadline_ms: int,
    now_ms: int = 0,
    runs: dict[str, int] | None = None,
    **sigma: float,
) -> dict[str, int]:
    """Returns L_i by name; what runs is told with its expected end."""
    work = Workload(tasks=tasks, machines=(ANY,), deadline_ms=deadline_ms)
    asked = LatestEnds(work, {name: Spread(sigma=s) for name, s in sigma.items()})
    ends = {work.index[name]: end for name, end in (runs or {}).items()}
    found = asked.at(now_ms, work, [each.duration_ms for each in tasks], ends).latest
    return {each.task_id: found[i] for i, each in enumerate(tasks) if i not in ends}


def test_exact_forecasts_leave_all_the_time_that_the_deadline_does() -> None:
    assert latest(*JOIN, deadline_ms=300_000) == {
        "long": 250_000,
        "short": 250_000,
        "last": 300_000,
    }


def test_what_is_uncertain_on_the_way_is_kept_free_before_the_deadline() -> None:
    found = latest(task("a", LONG), task("b", LAST, "a"), deadline_ms=10**6, a=0.3, b=0.4)
    own, after = 0.3 * LONG, 0.4 * LAST
    assert found["b"] == 10**6 - round(DUE_Z * after)
    assert found["a"] == 10**6 - LAST - round(DUE_Z * math.hypot(own, after))


FAR_OFF = {"last": 0.9}
"""So uncertain a last step leaves no time by the deadline: joins decide."""


def test_what_a_child_waits_for_is_to_end_at_once_and_what_it_does_not_has_until_then() -> None:
    found = latest(*JOIN, deadline_ms=LONG + LAST, long=0.1, short=0.2, **FAR_OFF)
    assert found["long"] == LONG
    assert found["last"] == LONG + LAST
    margin = math.hypot(ANCHOR_Z * 0.1 * LONG, JOIN_Z * 0.2 * SHORT)
    assert found["short"] == round(LONG - margin)


def test_a_forecast_that_leaves_no_time_is_trusted_less() -> None:
    found = latest(*JOIN, deadline_ms=LONG + LAST - 1, long=0.1, short=0.2, **FAR_OFF)
    margin = math.hypot(LATE_ANCHOR_Z * 0.1 * LONG, JOIN_Z * 0.2 * SHORT)
    assert found["short"] == round(LONG - margin)


def test_a_margin_larger_than_the_time_to_spare_leaves_none() -> None:
    assert latest(*JOIN, deadline_ms=0, long=0.9)["short"] == SHORT


def test_what_runs_is_uncertain_by_no_more_than_is_left_of_it() -> None:
    def short(sigma: float) -> int:
        runs = {"long": LONG}
        time = {"deadline_ms": LONG + LAST, "now_ms": 60_000}
        return latest(*JOIN, runs=runs, **time, long=sigma, **FAR_OFF)["short"]

    assert short(0.5) == LONG - round(ANCHOR_Z * 40_000)
    assert short(0.2) == LONG - round(ANCHOR_Z * 0.2 * LONG)


def test_margins_of_a_chain_beside_a_join_add_up_as_variances_do() -> None:
    chain = (task("first", SHORT), task("short", SHORT, "first"), JOIN[0], JOIN[2])
    found = latest(*chain, deadline_ms=LONG + LAST, first=0.1, short=0.1, **FAR_OFF)
    each = JOIN_Z * 0.1 * SHORT
    assert found["short"] == LONG - round(each)
    assert found["first"] == round(LONG - SHORT - math.hypot(each, each))


def test_of_two_children_the_sooner_one_decides() -> None:
    other = (task("other", LONG // 2), task("sooner", LAST, "other", "short"))
    found = latest(*JOIN, *other, deadline_ms=LONG + LAST, sooner=0.9, **FAR_OFF)
    assert found["short"] == LONG // 2
