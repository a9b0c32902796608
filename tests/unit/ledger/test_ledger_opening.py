from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from cu_market.ledger.database import Database
from cu_market.ledger.errors import LedgerError
from cu_market.ledger.location import parse_url
from cu_market.ledger.migrate import SCRIPTS
from cu_market.ledger.schema import HEAD, VERSION
from cu_market.ledger.sql import open_ledger


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    open_ledger(f"sqlite:///{path}").close()
    return path


def test_head_is_what_alembic_finds() -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_the_file_is_kept_durable(file: Path) -> None:
    database = Database(parse_url(f"sqlite:///{file}"))

    def pragma(name: str) -> object:
        return database.read(lambda c: c.exec_driver_sql(f"PRAGMA {name}").scalar())

    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == 2  # FULL
    database.close()


def test_an_up_to_date_ledger_opens_without_alembic_and_silently(file: Path) -> None:
    code = (
        "import logging, sys; logging.basicConfig(level=0)\n"
        "from cu_market.ledger.sql import open_ledger\n"
        f"open_ledger('sqlite:///{file}').close()\n"
        "print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_one_missing_directory_is_made_two_are_not(tmp_path: Path) -> None:
    open_ledger(f"sqlite:///{tmp_path / 'made' / 'ledger.db'}").close()
    with pytest.raises(LedgerError, match=r"gone/deeper cannot be made.*create it"):
        open_ledger(f"sqlite:///{tmp_path / 'gone' / 'deeper' / 'ledger.db'}")


def test_a_directory_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="is a directory; name a file in it"):
        open_ledger(f"sqlite:///{tmp_path}")


def test_a_ledger_from_a_newer_version_is_left_alone(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute(f"UPDATE {VERSION.name} SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(LedgerError, match=r"'9999'.*does not know.*upgrade cu_market"):
        open_ledger(f"sqlite:///{file}")


def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"not a database at all, but long enough to be read" * 100)
    with pytest.raises(LedgerError, match="not a SQLite database: name another file"):
        open_ledger(f"sqlite:///{path}")


def test_a_read_only_file_is_refused_on_opening(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write to anything, so what the system would tell other users is told here.
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != file)
    with pytest.raises(LedgerError, match=r"ledger\.db is read-only; make the file"):
        open_ledger(f"sqlite:///{file}")


def test_a_file_that_became_read_only_is_explained(file: Path) -> None:
    database = Database(parse_url(f"sqlite:///{file}"))
    database.read(lambda c: c.exec_driver_sql("PRAGMA query_only=ON"))
    with pytest.raises(LedgerError, match=r"readonly database; it is read-only: make the file"):
        database.write(lambda c: c.exec_driver_sql("DELETE FROM usages"))
    database.close()


def test_an_unreachable_server_is_explained_without_the_password() -> None:
    pytest.importorskip("psycopg2")
    with pytest.raises(LedgerError, match="check that the server is up") as caught:
        open_ledger("postgresql+psycopg2://u:secret@127.0.0.1:1/db")
    assert "secret" not in str(caught.value)


def test_what_raised_is_rolled_back_and_the_next_transaction_works(file: Path) -> None:
    database = Database(parse_url(f"sqlite:///{file}"))

    def fail(connection: object) -> None:
        connection.exec_driver_sql("UPDATE counters SET value = 7")  # type: ignore[attr-defined]
        raise RuntimeError("mid-way")

    with pytest.raises(RuntimeError, match="mid-way"):
        database.write(fail)
    read = "SELECT value FROM counters"
    assert database.write(lambda c: c.exec_driver_sql(read).scalar()) == 0
    database.close()
