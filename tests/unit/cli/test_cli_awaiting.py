"""`cu-market explain RUN --wait`: what counts as a run's end, and what as none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus

from cu_market.cli.awaiting import await_run
from cu_market.cli.exits import CommandError, NothingFoundError


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with DagsterInstance.from_config(str(tmp_path)) as opened:
        yield opened


def add(instance: DagsterInstance, status: DagsterRunStatus) -> DagsterRun:
    return instance.add_run(DagsterRun(job_name="job", status=status))


def test_a_run_that_has_not_begun_is_waited_for_until_it_has_ended(
    instance: DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(instance, DagsterRunStatus.SUCCESS)
    newest = add(instance, DagsterRunStatus.NOT_STARTED)
    pauses = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            instance.report_run_failed(newest)

    monkeypatch.setattr("cu_market.cli.awaiting.time.sleep", pause)
    await_run(tmp_path, "last", 60)
    assert len(pauses) == 2


def test_the_wait_ends_with_the_runs_status(instance: DagsterInstance, tmp_path: Path) -> None:
    run = add(instance, DagsterRunStatus.STARTED)
    with pytest.raises(CommandError, match=r"STARTED after 0 s; wait longer with --wait"):
        await_run(tmp_path, run.run_id[:8], 0)


def test_no_such_run(instance: DagsterInstance, tmp_path: Path) -> None:
    with pytest.raises(NothingFoundError, match="last"):
        await_run(tmp_path, "last", 0)
    add(instance, DagsterRunStatus.SUCCESS)
    with pytest.raises(NothingFoundError, match="no id"):
        await_run(tmp_path, "no id", 0)
