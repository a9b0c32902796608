"""What only a deployment on PostgreSQL can show: where the ledger is, connections, a restart."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dagster import DagsterInstance
from execution_record import MARKET, Bench
from postgres_server import PASSWORD, PASSWORD_VARIABLE, PostgresServer, postgres_storage

pytestmark = [
    pytest.mark.integration,
    pytest.mark.postgres,
    pytest.mark.timeout(1200),
    # Dagster reads its config classes in a way that pydantic has deprecated.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]

GREET = {"greet": {"config": {"name": "Ada"}}}


@pytest.fixture
def on_postgres(
    server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    """An instance on dagster-postgres whose configuration holds no secret."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\n" + postgres_storage(server, server.create_database())
    )
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    with DagsterInstance.get() as instance:
        yield Bench(instance, home)


def sessions(server: PostgresServer) -> int:
    """Returns how many connections were ever made to the test's database, once all are counted."""
    look = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'test_1'"
    until = time.monotonic() + 60
    while server.execute(look) != [(0,)] and time.monotonic() < until:
        time.sleep(0.05)
    ((count,),) = server.execute("SELECT sessions FROM pg_stat_database WHERE datname = 'test_1'")
    return int(count)


def test_the_ledger_is_a_schema_beside_dagsters_tables(
    on_postgres: Bench, server: PostgresServer
) -> None:
    run_id = on_postgres.run("plain", MARKET, ops=GREET)
    assert on_postgres.record(run_id).status == "SUCCESS"
    look = "SELECT count(*) FROM cu_market.allocations WHERE state = 'SETTLED'"
    assert server.execute(look, database="test_1") == [(2,)]
    assert not list(on_postgres.home.rglob("ledger.db*"))


def test_no_file_and_no_tag_tells_the_password(on_postgres: Bench) -> None:
    run_id = on_postgres.run("plain", MARKET, ops=GREET)
    for path in on_postgres.home.rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes(), path
    told = [entry.to_json() for entry in on_postgres.entries(run_id)]
    assert told
    assert not any(PASSWORD in each for each in told)
    run = on_postgres.instance.get_run_by_id(run_id)
    assert run is not None
    # PostgreSQL indexes tags: values of some thousand characters are refused.
    assert all(len(value) < 200 for value in run.tags.values())


def test_steps_open_no_connections_of_their_own(on_postgres: Bench, server: PostgresServer) -> None:
    counts = []
    for steps in (4, 24):
        before = sessions(server)
        ops = {"spread": {"config": {"count": steps}}}
        run_id = on_postgres.run("many", {"market": {"max_concurrent": 4}}, ops=ops)
        assert on_postgres.record(run_id).status == "SUCCESS"
        counts.append(sessions(server) - before)
    # What is written goes home through the run worker, over one connection that it keeps.
    assert counts[1] - counts[0] < 20


def held(folder: Path) -> list[Path]:
    return list(folder.glob("holds_*.*"))


def meanwhile(reached: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    def work() -> None:
        until = time.monotonic() + 600
        while not reached() and time.monotonic() < until:
            time.sleep(0.05)
        act()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_run_goes_on_after_its_database_was_killed_and_restarted(
    on_postgres: Bench, server: PostgresServer, tmp_path: Path
) -> None:
    def restart() -> None:
        server.kill()
        server.start()
        (tmp_path / "go").touch()

    def is_quiet() -> bool:
        # What Dagster itself is writing when the server dies, Dagster does not write again.
        look = "SELECT count(*) FROM event_logs WHERE dagster_event_type = 'STEP_START'"
        return len(held(tmp_path)) == 2 and server.execute(look, database="test_1") == [(2,)]

    restarter = meanwhile(is_quiet, restart)
    ops = {f"holds_{i}": {"config": {"folder": str(tmp_path)}} for i in range(3)}
    run_id = on_postgres.run("holding", {"market": {"max_concurrent": 2}}, ops=ops)
    restarter.join()
    assert on_postgres.record(run_id).status == "SUCCESS"
    rows = on_postgres.allocations(run_id)
    assert [(row.attempt, row.state) for row in rows] == [(1, "SETTLED")] * 3
    assert len(on_postgres.usages(run_id)) == 3
