"""What a run does when the market cannot answer, or was asked not to act."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterEventType
from execution_record import MARKET, Bench
from unhurried import UNHURRIED

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(1200),
    # Dagster reads its config classes in a way that pydantic has deprecated.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]

GREET = {"greet": {"config": {"name": "Ada"}}}
NOTHING_READABLE = b"this is no database" * 100


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A ledger's file that nobody can read."""
    file = tmp_path / "broken.db"
    file.write_bytes(NOTHING_READABLE)
    return file


def market(file: Path, rule: str) -> dict[str, Any]:
    settings = {**UNHURRIED, "ledger_url": f"sqlite:///{file}", "on_market_failure": rule}
    return {"market": {"settings": settings}}


def run_error(bench: Bench, run_id: str) -> str:
    """Returns why a run failed, as its event log tells it."""
    (failure,) = bench.entries(run_id, DagsterEventType.RUN_FAILURE)
    return failure.dagster_event.event_specific_data.error.to_string()


def test_native_runs_the_steps_as_multiprocess_does(bench: Bench, broken: Path) -> None:
    run_id = bench.run("plain", market(broken, "native"), ops=GREET, op_selection=["greet"])
    assert bench.record(run_id).status == "SUCCESS"
    messages = bench.engine_messages(run_id)
    assert any(message.startswith("The market cannot answer (") for message in messages)
    assert any("multiprocess executor" in message for message in messages)


def test_fail_fails_the_run_before_any_step(bench: Bench, broken: Path) -> None:
    run_id = bench.run("plain", market(broken, "fail"), ops=GREET)
    assert "broken.db" in run_error(bench, run_id)
    assert not bench.entries(run_id, DagsterEventType.STEP_START)


def act_when_waiting(bench: Bench, act: Any) -> threading.Thread:
    def work() -> None:
        pause = threading.Event()
        for _ in range(12_000):
            runs = bench.instance.get_runs()
            if runs and any(
                "on_market_failure is wait" in message
                for message in bench.engine_messages(runs[0].run_id)
            ):
                act(runs[0])
                return
            pause.wait(0.05)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_wait_goes_on_when_the_market_answers(bench: Bench, broken: Path) -> None:
    waiter = act_when_waiting(bench, lambda _: broken.unlink())
    run_id = bench.run("plain", market(broken, "wait"), ops=GREET)
    waiter.join()
    assert bench.record(run_id).status == "SUCCESS"
    assert any(m.startswith("Bill: ") for m in bench.engine_messages(run_id))


def test_wait_can_be_cancelled(bench: Bench, broken: Path) -> None:
    def cancel(run: Any) -> None:
        bench.instance.report_run_canceling(run)
        os.kill(os.getpid(), signal.SIGINT)

    waiter = act_when_waiting(bench, cancel)
    run_id = bench.run("plain", market(broken, "wait"), ops=GREET)
    waiter.join()
    assert bench.record(run_id).status == "CANCELED"


def test_recommend_changes_nothing(bench: Bench) -> None:
    settings = {**UNHURRIED, "mode": "recommend"}
    run_id = bench.run(
        "plain", {"market": {"settings": settings}}, ops=GREET, op_selection=["greet"]
    )
    assert bench.record(run_id).status == "SUCCESS"
    messages = bench.engine_messages(run_id)
    told = [m for m in messages if m.startswith("Recommendation only, nothing is bought")]
    assert len(told) == 1
    assert " against local/standard kept for its " in told[0]
    assert any("multiprocess executor" in message for message in messages)
    assert not any(message.startswith("Bill: ") for message in messages)
    assert not bench.allocations(run_id)


@pytest.mark.parametrize(
    ("settings", "tags", "said"),
    [
        ({"mode": "recommend"}, {"cu/for.greet": "cpu=1000"}, "would have been refused"),
        ({}, {"cu/mode": "recommend", "cu/budget_usd": "minus one"}, "cu/budget_usd"),
        ({"mode": "recommend", "on_market_failure": "fail"}, {}, "The market cannot answer"),
    ],
    ids=["what nobody can serve", "a tag that cannot be read", "a broken ledger"],
)
def test_recommend_refuses_and_fails_nothing(
    bench: Bench, broken: Path, settings: dict[str, Any], tags: dict[str, str], said: str
) -> None:
    if "on_market_failure" in settings:
        settings = settings | {"ledger_url": f"sqlite:///{broken}"}
    execution = {"market": {"settings": UNHURRIED | settings} if settings else {}}
    run_id = bench.run("plain", execution, ops=GREET, op_selection=["greet"], tags=tags)
    assert bench.record(run_id).status == "SUCCESS"
    assert any(said in message for message in bench.engine_messages(run_id))


@pytest.mark.parametrize("branch", ["multiprocess", "in_process"])
def test_the_launchpad_opts_a_run_out(bench: Bench, branch: str) -> None:
    run_id = bench.run("plain", {branch: {}}, ops=GREET, op_selection=["greet"])
    assert bench.record(run_id).status == "SUCCESS"
    assert not any("market" in message.lower() for message in bench.engine_messages(run_id))
    assert not (bench.home / "cu_market").exists()


def test_a_bad_tag_fails_the_run_before_anything_is_spent(bench: Bench) -> None:
    run_id = bench.run("plain", MARKET, ops=GREET, tags={"cu/budget_usd": "minus one"})
    error = run_error(bench, run_id)
    assert "cu/budget_usd" in error
    assert "minus one" in error
    assert not bench.entries(run_id, DagsterEventType.STEP_START)
    assert not bench.allocations(run_id)
