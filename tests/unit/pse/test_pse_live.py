"""Growth and size of a running step are foreseen in time; what is as before raises no alarm."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from cu_market.domain.curve import UsageCurve
from cu_market.pse.live.matching import match_all, memory_at, plausible
from cu_market.pse.live.outlook import KEPT, Outlook, Watch

MIB = 2**20
EVERY = 50


def curve(memory_mib: Iterable[float]) -> UsageCurve:
    held = tuple(round(value * MIB) for value in memory_mib)
    zeros = (0,) * len(held)
    return UsageCurve(interval_ms=EVERY, memory_bytes=held, cpu_ms=zeros, io_bytes=zeros)


def shape(seconds: float, top: float) -> list[float]:
    """Rises for a third of its time, stays, and gives half back at its end."""
    count = round(seconds * 1000 / EVERY)
    return [
        top * min(1.0, 3 * place / count) * (0.5 if place > 0.9 * count else 1.0)
        for place in range(count)
    ]


EARLIER = [curve(shape(9, 400)), curve(shape(10, 410)), curve(shape(11, 390))]


def watched(memory_mib: list[float], limit_mib: float, earlier: list[UsageCurve]) -> list[Outlook]:
    watch = Watch(limit_bytes=round(limit_mib * MIB), earlier=earlier)
    found = (watch.sample(n * EVERY, round(m * MIB)) for n, m in enumerate(memory_mib))
    return [each for each in found if each is not None]


def first_alarm_ms(outlooks: list[Outlook]) -> float | None:
    return next((n * 250.0 for n, each in enumerate(outlooks) if each.is_alarm), None)


@pytest.mark.parametrize(("seconds", "top"), [(8, 400), (10, 430), (12, 370)])
def test_what_is_as_before_raises_no_alarm(seconds: float, top: float) -> None:
    assert first_alarm_ms(watched(shape(seconds, top), 500, EARLIER)) is None


def test_growth_after_the_plateau_is_foreseen() -> None:
    held = shape(20, 400)
    grown = [m + max(0, n - 160) * 1.0 for n, m in enumerate(held)]  # 20 MiB a second from 8 s on
    hit = next(n * EVERY for n, m in enumerate(grown) if m > 500)
    outlooks = watched(grown, 500, [curve(shape(20, 400))])
    alarm = first_alarm_ms(outlooks)
    assert alarm is not None
    assert 8_000 < alarm <= hit - 2_000
    alarmed = next(each for each in outlooks if each.is_alarm)
    assert "MiB a second more" in alarmed.reason
    assert alarmed.peak_bytes.p95 > 500 * MIB


def test_without_earlier_curves_steady_growth_is_foreseen_and_a_jump_is_not() -> None:
    steady = [100 + 2.0 * n for n in range(200)]  # 40 MiB a second
    alarm = first_alarm_ms(watched(steady, 450, []))
    assert alarm is not None
    assert alarm < 2_500
    jump = [100.0] * 60 + [300.0] * 60
    assert first_alarm_ms(watched(jump, 450, [])) is None


def test_a_ramp_twice_as_high_is_foreseen_once_it_is_past_the_earlier_peak() -> None:
    # A straight ramp twice as high is like one twice as quick, until it is past the earlier peak.
    held = shape(36, 800)
    hit = next(n * EVERY for n, m in enumerate(held) if m > 750)
    alarm = first_alarm_ms(watched(held, 750, [curve(shape(36, 400))]))
    assert alarm is not None
    assert alarm <= hit - 2_000


def test_remaining_time_is_of_the_stretch_that_fits() -> None:
    outlooks = watched(shape(10, 400)[:150], 600, [curve(shape(10, 400))])
    remaining = outlooks[-1].remaining_ms
    assert remaining is not None
    assert 2_500 <= remaining.p10 <= remaining.p95 <= 2_800  # it looks every 250 ms
    assert outlooks[-1].limit_in_ms is None


def test_a_match_is_exact_for_a_stretched_and_scaled_curve() -> None:
    earlier = curve(shape(10, 400))
    times = [float(t) for t in range(0, 12_000, EVERY)]
    held = [1.5 * memory_at(earlier, t / 1.3) for t in times]
    best, *others = match_all(times, held, [earlier])
    assert (best.stretch, round(best.scale, 6), round(best.error, 6)) == (1.3, 1.5, 0)
    assert all(other.error >= best.error for other in others)
    assert best in plausible([best, *others])
    assert plausible([]) == []


def test_a_long_watch_keeps_few_samples_and_sees_what_comes_all_the_same() -> None:
    watch = Watch(limit_bytes=1000 * MIB, earlier=())
    steady = [(float(n * EVERY), 300 * MIB) for n in range(20_000)]
    watch.remember(steady[:-20])
    for at, memory in steady[-20:]:
        outlook = watch.sample(at, memory)
        assert outlook is None or not outlook.is_alarm
    assert len(watch._times) <= KEPT
    since = 20_000 * EVERY
    alarms = [
        outlook
        for n in range(60)
        if (outlook := watch.sample(since + n * EVERY, (300 + 8 * n) * MIB)) and outlook.is_alarm
    ]
    assert alarms
    assert alarms[0].limit_in_ms is not None
    assert 2_000 < alarms[0].limit_in_ms < 5_000
