"""A PostgreSQL that is killed, restarted, cut off or jammed under a working ledger."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import pytest
from cutting_proxy import CuttingProxy
from ledger_rows import ONE_CU, T0, an_award, give_back, take
from postgres_server import PostgresServer

from cu_market.domain.allocation import AllocationState
from cu_market.domain.auction import Auction
from cu_market.domain.resources import ResourceVector
from cu_market.ledger import postgres as postgres_dialect
from cu_market.ledger.database import Database
from cu_market.ledger.errors import LedgerError
from cu_market.ledger.leases import give
from cu_market.ledger.location import parse_url
from cu_market.ledger.sql import SqlLedger, open_ledger

pytestmark = [pytest.mark.integration, pytest.mark.postgres, pytest.mark.timeout(1200)]

SPAWN = multiprocessing.get_context("spawn")
HOUR = timedelta(hours=1)
ROOM_FOR_TWO = ONE_CU.times(2)


def work(url: str, number: int, report: Connection) -> None:
    """Leases and settles until told to end; reports what was answered, not what was meant."""
    settled = []
    with open_ledger(url) as ledger:
        report.send("opened")
        step = 0
        while not report.poll():
            step += 1
            lease = take(ledger, f"run-{number}", f"step-{step}", ROOM_FOR_TWO)
            if lease is not None:
                settled.append(give_back(ledger, lease).key)
            if step == 20:
                report.send("at work")
    report.send(settled)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_work_goes_on_after_a_restart_and_nothing_answered_is_lost(
    server: PostgresServer, how: str
) -> None:
    url = server.url(server.create_database())
    workers = []
    for number in range(4):
        here, there = SPAWN.Pipe()
        process = SPAWN.Process(target=work, args=(url, number, there))
        process.start()
        workers.append((process, here))
    for _, connection in workers:
        assert [connection.recv(), connection.recv()] == ["opened", "at work"]
    for _ in range(3):
        getattr(server, how)()
        server.start()
        with open_ledger(url) as ledger:
            before = len(ledger.usages())
            until = time.monotonic() + 240
            while len(ledger.usages()) < before + 20:
                assert time.monotonic() < until, "no work after the restart"
                time.sleep(0.02)
    answered: list[Any] = []
    for process, connection in workers:
        connection.send("end")
        answered += connection.recv()
        process.join()
        assert process.exitcode == 0
    with open_ledger(url) as ledger:
        rows = {row.key: row for row in ledger.allocations()}
        assert {row.state for row in rows.values()} == {AllocationState.SETTLED}
        assert set(answered) == set(rows)
        used = [(u.run_id, u.step_key, u.attempt) for u in ledger.usages()]
        assert sorted(used) == sorted(rows)
        tokens = [row.fencing_token for row in rows.values()]
        assert len(set(tokens)) == len(tokens)


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(postgres.host, postgres.port)
    yield proxy
    proxy.close()


@pytest.fixture
def proxied(
    postgres: PostgresServer, proxy: CuttingProxy, postgres_url: str
) -> Iterator[SqlLedger]:
    """A ledger whose answers can be lost on the way."""
    name = str(parse_url(postgres_url).database)
    with open_ledger(postgres.url(name, proxy.port)) as ledger:
        yield ledger


def test_a_commit_whose_answer_was_lost_counts_once(
    proxied: SqlLedger, proxy: CuttingProxy
) -> None:
    auction = Auction(auction_id="auction", run_id="run", held_at=T0, mode="market", place="l")
    proxy.cut_after(b"COMMIT")
    proxied.record_auction(auction, [an_award("run", "step")])
    proxy.cut_after(b"COMMIT")
    lease = take(proxied, "run", "step", ROOM_FOR_TWO)
    assert lease is not None
    assert lease.fencing_token == 1
    proxy.cut_after(b"COMMIT")
    assert proxied.accept(lease.key, 1, now=T0).state is AllocationState.ACCEPTED
    proxy.cut_after(b"COMMIT")
    settled = give_back(proxied, lease)
    assert proxy.cuts == 4
    assert proxied.allocations() == [settled]
    assert settled.cost_microusd == 1000
    assert len(proxied.usages()) == 1


def test_a_request_that_was_lost_on_its_way_is_made_again(
    proxied: SqlLedger, proxy: CuttingProxy
) -> None:
    for request in (b"BEGIN", b"INSERT INTO cu_market.allocations"):
        proxy.cut_after(request)
        assert take(proxied, "run", f"step {request!r}", ROOM_FOR_TWO) is not None
    proxy.cut_after(b"SELECT")
    assert proxied.held("local") == ROOM_FOR_TWO
    assert proxy.cuts == 3


def test_connections_that_the_server_has_ended_are_replaced(
    postgres: PostgresServer, postgres_url: str
) -> None:
    with open_ledger(postgres_url) as ledger:
        assert take(ledger, "run", "a", ROOM_FOR_TWO) is not None
        name = parse_url(postgres_url).database
        ended = postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", name
        )
        assert ended == [(True,)]  # idle, a ledger keeps one connection
        assert take(ledger, "run", "b", ROOM_FOR_TWO) is not None


def test_a_server_that_stays_away_is_an_error_in_the_end(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_ledger(server.url(server.create_database())) as ledger:
        server.stop()
        with monkeypatch.context() as patch:
            patch.setattr("cu_market.ledger.database.BUSY_SECONDS", 0.3)
            with pytest.raises(LedgerError, match="check that the server is up"):
                ledger.held("local")
        server.start()
        assert ledger.held("local") == ResourceVector()


def test_a_wrong_password_is_said_at_once_and_not_shown(server: PostgresServer) -> None:
    wrong = parse_url(server.url()).set(password="secret")
    with pytest.raises(LedgerError, match=r"password authentication failed.*check user, pass") as e:
        open_ledger(wrong.render_as_string(hide_password=False))
    assert "secret" not in str(e.value)


def test_a_lock_that_is_not_given_back_is_an_error_not_a_hang(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    jam = Database(parse_url(postgres_url))
    entered, leave = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        entered.set()
        leave.wait()

    with open_ledger(postgres_url) as ledger:
        holder = threading.Thread(target=lambda: jam.write(hold, "capacity local"))
        holder.start()
        entered.wait()
        short = postgres_dialect._WRITE.replace("lock_timeout = 10000", "lock_timeout = 100")
        with monkeypatch.context() as patch:
            patch.setattr(postgres_dialect, "_WRITE", short)
            with pytest.raises(LedgerError, match="another transaction holds it"):
                take(ledger, "run", "step", ROOM_FOR_TWO)
        leave.set()
        holder.join()
        assert take(ledger, "run", "step", ROOM_FOR_TWO) is not None
    jam.close()


def test_a_process_that_stops_in_a_transaction_loses_it(
    postgres: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends it, so that the locks of a frozen run worker do not hold everybody up."""
    name = "idle_in_transaction_session_timeout"
    short = postgres_dialect._WRITE.replace(f"{name} = 30000", f"{name} = 100")
    usual = postgres_dialect._WRITE
    assert short != usual
    tries = []

    def freeze(connection: Any) -> str:
        tries.append(1)
        if len(tries) == 1:
            # Frozen for longer than the server allows, which allows the next try as long as ever.
            monkeypatch.setattr(postgres_dialect, "_WRITE", usual)
            mine = connection.connection.driver_connection.get_backend_pid()
            until = time.monotonic() + 240
            while postgres.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", mine):
                assert time.monotonic() < until, "the server does not end it"
                time.sleep(0.05)
        return str(connection.exec_driver_sql("SELECT 'thawed'").scalar())

    database = Database(parse_url(postgres_url))
    database.write(lambda c: c.exec_driver_sql("SELECT 1"))
    monkeypatch.setattr(postgres_dialect, "_WRITE", short)
    assert database.write(freeze, "capacity local") == "thawed"
    assert len(tries) == 2
    database.close()


def test_more_threads_than_connections_wait_and_in_the_end_are_told(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_dialect, "BUSY_SECONDS", 0.2)
    database = Database(parse_url(postgres_url))
    entered, leave = threading.Semaphore(0), threading.Event()

    def hold(_: object) -> None:
        entered.release()
        leave.wait()

    holders = [threading.Thread(target=lambda: database.read(hold)) for _ in range(16)]
    for holder in holders:
        holder.start()
    for _ in holders:
        entered.acquire()
    with pytest.raises(LedgerError, match="too many threads of this process"):
        database.read(lambda _: None)
    leave.set()
    for holder in holders:
        holder.join()
    database.read(lambda _: None)
    database.close()


def test_a_lease_locks_rows_and_names_never_a_table(postgres_url: str) -> None:
    open_ledger(postgres_url).close()
    database = Database(parse_url(postgres_url))

    def give_and_look(connection: Any) -> list[tuple[str, str]]:
        give(connection, an_award("run", "step"), ROOM_FOR_TWO, T0 + HOUR, T0)
        look = "SELECT locktype, mode FROM pg_locks WHERE pid = pg_backend_pid() AND granted"
        return [tuple(row) for row in connection.exec_driver_sql(look)]

    held = database.write(give_and_look, "capacity local", "run run")
    assert sum(kind == "advisory" for kind, _ in held) == 2
    # These three bar no reader and no writer of another row.
    shared = {"AccessShareLock", "RowShareLock", "RowExclusiveLock"}
    assert {mode for kind, mode in held if kind == "relation"} <= shared
    database.close()
