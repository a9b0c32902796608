"""A pod's channel through a real database, process 1 and all: what goes over it, and how it ends.

Process 1 and what carries for it run here, as in a pod; the run worker's end is a WarmPod's session
over the carrier's connections.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from channel_pods import FAREWELL, Pod, Start, ledger_of, reference_of, say
from postgres_server import PostgresServer

from cu_market.deo.channel.link import channel_of
from cu_market.ledger.channels import Sender
from cu_market.ledger.location import Reference
from cu_market.ledger.sql import SqlLedger

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]


def test_bytes_go_both_ways_and_nothing_is_left_of_them(
    reference: Reference, started: Start
) -> None:
    pod = started(reference)
    for word in (b"one", b"two", b"three" * 200_000):
        say(pod, word)
    pod.session.end("done")
    pod.exchange(1)
    assert pod.session.peer_end == "the worker ended with exit code 0"
    assert pod.process.wait(240) == 0
    pod.drop()
    pod.carrier.forget(pod.token)
    with ledger_of(pod) as ledger:
        assert ledger.channels.take(channel_of(pod.token), "me") is None
        assert ledger.channels.forget_run("run") == 0
    assert pod.cuts == 0


def test_the_workers_last_bytes_and_exit_code_arrive(reference: Reference, started: Start) -> None:
    pod = started(reference, FAREWELL)
    assert pod.exchange(10**6) == b"x" * 300_000 + b"farewell"
    assert pod.session.peer_end == "the worker ended with exit code 7"
    assert pod.process.wait(240) == 7


def test_nobody_comes_for_too_long(reference: Reference, started: Start) -> None:
    pod = started(reference, disconnect_seconds=0.2)
    assert pod.process.wait(240) == 0
    assert "no run worker for" in pod.log.read_text()


def test_it_ends_with_process_1_however_that_ended(reference: Reference, started: Start) -> None:
    pod = started(reference)
    say(pod, b"x")
    carrying = pod.carrying_process()
    assert carrying is not None
    pod.process.kill()
    pod.process.wait()
    deadline = time.monotonic() + 240
    while Path(f"/proc/{carrying}/cmdline").exists() and is_running(carrying):
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_ledger_that_is_not_there_is_said_and_given_up(tmp_path: Path, started: Start) -> None:
    pod = started(f"sqlite:///{tmp_path / 'ledger.db'}", theirs={"env": "CU_MARKET_TEST_NOT_SET"})
    assert pod.process.wait(240) == 1
    assert "CU_MARKET_TEST_NOT_SET" in pod.log.read_text()
    assert "not set" in pod.log.read_text()


@pytest.mark.postgres
def test_its_tables_write_no_log(server: PostgresServer, started: Start) -> None:
    started(reference_of(server))
    rows = server.execute(
        "SELECT relname, relpersistence FROM pg_class WHERE relname IN ('channels', 'parcels')"
    )
    assert sorted(rows) == [("channels", "u"), ("parcels", "u")]


@pytest.mark.pgbouncer
def test_a_pooler_may_stand_between(
    pgbouncer_url: str, started: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CU_MARKET_TEST_URL", pgbouncer_url)
    pod = started({"env": "CU_MARKET_TEST_URL"})
    for _ in range(5):
        say(pod, b"word" * 100_000)
    pod.drop()
    say(pod, b"after a cut")


def test_parcels_are_bounded_where_nobody_reads(reference: Reference, started: Start) -> None:
    pod = started(reference)
    say(pod, b"x")
    pod.session.write(b"y" * 8 * 2**20)
    assert pod.channel is not None
    while data := pod.session.to_send():
        pod.channel.send(data)  # the echo fills the way back, and nothing here takes it
    with ledger_of(pod) as ledger:
        begins_by = time.monotonic() + 240
        while not (most := len(stored(ledger, pod))):
            assert time.monotonic() < begins_by, "nothing comes back"
            time.sleep(0.05)
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            most = max(most, len(stored(ledger, pod)))
            time.sleep(0.05)
    assert 1 <= most <= 4
    assert pod.exchange(8 * 2**20) == b"Y" * 8 * 2**20


def stored(ledger: SqlLedger, pod: Pod) -> list[int]:
    """Returns the numbers of the worker's parcels under way."""
    from sqlalchemy import select as sql_select

    from cu_market.ledger.schema import PARCELS

    query = sql_select(PARCELS.c.number).where(PARCELS.c.sender == Sender.WORKER.value)
    return list(ledger._database.read(lambda c: c.scalars(query).all()))
