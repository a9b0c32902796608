from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cu_market.domain.request import StepIdentity
from cu_market.domain.spec import Risk
from cu_market.domain.units import MIB
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.pse import EmpiricalForecaster, Forecast, next_after_oom
from cu_market.pse.cores import round_cores
from cu_market.pse.evidence import reference_duration_ms

STEP = StepIdentity(node="flights")
AT = datetime(2024, 1, 1, tzinfo=UTC)
OK, ERROR, OOM = Ending.OK, Ending.ERROR, Ending.OUT_OF_MEMORY


def attempt(
    peak_mib: float = 400,
    *,
    run: str = "r",
    ending: Ending = OK,
    given_mib: int = 1024,
    cpu_millis: int = 1000,
    wall_ms: int = 10_000,
    cpu_ms: int = 9_000,
    waited_ms: int | None = None,
    code: str = "",
    external: bool = False,
) -> Usage:
    return Usage(
        run_id=run,
        step_key="flights",
        attempt=1,
        identity=STEP,
        code_version=code,
        provider="local",
        resource_id="local/standard",
        started_at=AT,
        ended_at=AT,
        cpu_millis=cpu_millis,
        memory_bytes=given_mib * MIB,
        measurement=Measurement(
            wall_ms=wall_ms,
            cpu_ms=cpu_ms,
            peak_memory_bytes=round(peak_mib * MIB),
            read_bytes=100,
            written_bytes=50,
            waited_ms=waited_ms,
        ),
        ending=ending,
        external=external,
    )


def forecast(*history: Usage, code_version: str | None = None) -> Forecast:
    found = EmpiricalForecaster().forecast(STEP, history, code_version=code_version)
    assert found is not None
    return found


def test_no_history_is_no_forecast() -> None:
    assert EmpiricalForecaster().forecast(STEP, []) is None


@pytest.mark.parametrize("ending", [Ending.LOST, Ending.PREEMPTED, Ending.INTERRUPTED])
def test_attempts_that_others_ended_teach_nothing(ending: Ending) -> None:
    assert EmpiricalForecaster().forecast(STEP, [attempt(9000, ending=ending)]) is None
    assert forecast(attempt(9000, ending=ending), attempt()) == forecast(attempt())


def test_external_steps_teach_nothing() -> None:
    assert EmpiricalForecaster().forecast(STEP, [attempt(external=True)]) is None


def test_one_attempt_gives_a_fifth_of_headroom() -> None:
    found = forecast(attempt(400))
    assert found.allocation_bytes() == 480 * MIB
    assert found.memory.p50 == 400 * MIB
    assert found.memory.p95 == 480 * MIB
    assert found.in_words() == "p50 400.0 MiB, p95 480.0 MiB of 1 attempt"
    assert (found.read_bytes.p50, found.written_bytes.p50, found.cpu_ms.p50) == (100, 50, 9000)


def test_a_steady_step_is_given_at_most_a_quarter_more_in_its_third_run() -> None:
    for peak in range(200, 2000, 7):
        found = forecast(attempt(peak * 1.02), attempt(peak))
        assert peak * 1.02 * MIB < found.allocation_bytes() <= 1.25 * peak * MIB


def test_headroom_shrinks_with_attempts_and_grows_with_spread() -> None:
    steady = [forecast(*[attempt()] * n).headroom_ratio for n in (1, 2, 4, 9)]
    assert steady == sorted(steady, reverse=True)
    assert steady[-1] < 0.08
    for grown_or_shrunk in ((attempt(400), attempt(200)), (attempt(200), attempt(400))):
        assert forecast(*grown_or_shrunk).headroom_ratio > steady[1] + 0.1


def test_risk_orders_the_allocation() -> None:
    found = forecast(*(attempt(400 + 10 * (i % 7)) for i in range(20)))
    cost, balanced, safe = (found.allocation_bytes(risk) for risk in Risk)
    assert cost <= balanced <= safe
    assert cost < safe


def test_other_code_widens_rather_than_forgets() -> None:
    same = forecast(attempt(code="1"), code_version="1")
    other = forecast(attempt(code="1"), code_version="2")
    assert other.memory.p50 == same.memory.p50
    assert other.allocation_bytes() == 560 * MIB > same.allocation_bytes()
    assert forecast(attempt(code="1")) == same


def test_an_error_only_counts_where_it_used_more() -> None:
    assert forecast(attempt(900, ending=ERROR), attempt(400)).memory_sample.largest == 900 * MIB
    below = forecast(attempt(100, ending=ERROR), attempt(400))
    assert below.memory_sample.values == (400 * MIB,)
    assert below.attempts == 1
    assert forecast(attempt(100, ending=ERROR)).attempts == 0


def test_running_out_of_memory_bounds_the_next_size_from_below() -> None:
    found = forecast(attempt(1020, ending=OOM, given_mib=1024))
    assert found.attempts == 0
    assert found.lower_bound_bytes == 1024 * MIB
    assert found.allocation_bytes() >= found.floor_bytes == 2048 * MIB
    later = forecast(attempt(1100, run="b", ending=OOM), attempt(400, run="a"))
    assert later.allocation_bytes() >= 2200 * MIB


def test_a_bound_is_resolved_by_the_same_runs_good_end() -> None:
    found = forecast(
        attempt(1500, run="a", given_mib=2048), attempt(1020, run="a", ending=OOM, given_mib=1024)
    )
    assert found.lower_bound_bytes == 0
    assert found.memory_sample.values == (1500 * MIB,)
    assert found.allocation_bytes() < 2048 * MIB


def test_an_unresolved_bound_stays_a_large_value_after_other_runs_ended_well() -> None:
    found = forecast(attempt(400, run="b"), attempt(1020, run="a", ending=OOM, given_mib=1024))
    assert found.lower_bound_bytes == 0
    assert found.memory_sample.largest == 2048 * MIB


def test_old_peaks_are_forgotten() -> None:
    found = forecast(*[attempt(400)] * 30, attempt(4000))
    assert found.memory_sample.largest == 400 * MIB


@pytest.mark.parametrize(
    ("cpu_ms", "waited_ms", "given", "wanted"),
    [
        (1_000, 0, 2000, 250),
        (4_000, 0, 2000, 500),
        (9_900, 0, 2000, 1000),  # one busy thread
        (10_400, 0, 4000, 1000),  # and the noise of its measurement
        (19_000, 0, 2000, 2000),  # full: not shrunk
        (36_500, 0, 4000, 4000),
        (5_000, 5_000, 1000, 1000),  # half delivered: it wanted a whole core
        (10_000, None, 250, 1000),  # used more than it was given
        (20_000, 60_000, 2000, 2000),  # eight threads on two cores want two
    ],
)
def test_useful_cores(cpu_ms: int, waited_ms: int | None, given: int, wanted: int) -> None:
    seen = attempt(cpu_ms=cpu_ms, waited_ms=waited_ms, cpu_millis=given)
    assert forecast(seen).useful_cpu_millis == wanted


def test_cores_are_rounded_to_what_is_worth_asking_for() -> None:
    wants = (0, 225, 226, 450, 451, 1000, 1100, 1101, 2100, 2101)
    sizes = [round_cores(want) for want in wants]
    assert sizes == [250, 250, 500, 500, 1000, 1000, 1000, 2000, 2000, 3000]


@pytest.mark.parametrize(
    ("wall_ms", "cpu_ms", "waited_ms", "reference_ms"),
    [
        (10_000, 5_000, 5_000, 5_000),  # all CPU, half delivered
        (10_000, 1_000, 1_000, 9_000),  # the waiting for disks stays
        (10_000, 9_000, None, 10_000),
        (10_000, 20_000, 0, 10_000),
        (0, 0, None, 1),
    ],
)
def test_duration_is_stated_at_the_references_speed(
    wall_ms: int, cpu_ms: int, waited_ms: int | None, reference_ms: int
) -> None:
    measured = Measurement(wall_ms=wall_ms, cpu_ms=cpu_ms, waited_ms=waited_ms, peak_memory_bytes=0)
    assert reference_duration_ms(measured) == reference_ms


def test_after_running_out_the_size_doubles_what_was_reached() -> None:
    assert next_after_oom(1024 * MIB, 1000 * MIB) == 2048 * MIB
    assert next_after_oom(1024 * MIB, 1536 * MIB) == 3072 * MIB


def test_after_running_out_history_may_know_better() -> None:
    known = forecast(attempt(1500), attempt(1490))
    assert 1500 * MIB < next_after_oom(1024 * MIB, 1030 * MIB, known) < 2048 * MIB
    small = forecast(attempt(400))
    assert next_after_oom(1024 * MIB, 1030 * MIB, small) >= 2060 * MIB


def test_after_running_out_the_largest_cu_is_the_last_resort() -> None:
    gib = 1024 * MIB
    assert next_after_oom(gib, gib, largest_bytes=gib + MIB) == gib + MIB
    assert next_after_oom(gib, gib, largest_bytes=8 * gib) == 2 * gib
    assert next_after_oom(gib, gib, largest_bytes=gib) == 2 * gib  # nobody has it: to be named
