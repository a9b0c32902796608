"""The queue as a launch sees it: the market's own runs, from their stored plans."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

from cu_market import compute, market_executor
from cu_market.deo.launcher import queued


@dg.op(tags=compute(cpu=2))
def one() -> int:
    return 1


@dg.op
def two(value: int) -> None:
    pass


@dg.job(executor_def=market_executor)
def market() -> None:
    two(one())


@dg.job(executor_def=dg.in_process_executor)
def native() -> None:
    one()


def origin(job: dg.JobDefinition) -> RemoteJobOrigin:
    """Where a queued run's code is: every such run has to say so."""
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "repository")
    return RemoteJobOrigin(repository, job.name)


def queue(instance: DagsterInstance, job: dg.JobDefinition) -> str:
    run = instance.create_run_for_job(
        job,
        status=DagsterRunStatus.QUEUED,
        remote_job_origin=origin(job),
        tags={"cu/deadline_seconds": "60"},
    )
    return run.run_id


def test_the_queue_is_read_oldest_first_and_only_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queued, "MOST_QUEUED", 3)
    monkeypatch.setattr(queued, "MOST_SECONDS", 600.0)
    with DagsterInstance.ephemeral() as instance:
        jobs = [market, native, market, market, market]
        runs = [queue(instance, job) for job in jobs]
        instance.create_run_for_job(market, status=DagsterRunStatus.STARTED)
        found = list(queued.queued_outlines(instance, runs[0]))
        assert [outline.run_id for outline in found] == [runs[2], runs[3]]
        outline = found[0]
        assert outline.tags["cu/deadline_seconds"] == "60"
        assert [(s.step_key, s.depends_on) for s in outline.steps] == [
            ("one", ()),
            ("two", ("one",)),
        ]
        assert outline.steps[0].tags["cu/cpu_cores"] == "2"


def test_a_slow_storage_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queued, "MOST_SECONDS", -1.0)
    with DagsterInstance.ephemeral() as instance:
        queue(instance, market)
        assert list(queued.queued_outlines(instance, "another")) == []
