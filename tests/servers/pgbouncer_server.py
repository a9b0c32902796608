"""A private pgbouncer in transaction mode before a private PostgreSQL."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from postgres_server import (
    PASSWORD,
    PostgresServer,
    free_port,
    spawn,
    unprivileged,
)

START_SECONDS = 240.0
SERVER_CONNECTIONS = 2
"""Per database: fewer than the clients that the tests have at once, so that they take turns."""


def find_pgbouncer() -> str | None:
    """Returns the program's path, or None. Debian keeps it where only root's PATH leads."""
    return shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


class PgBouncer:
    """A pooler that gives its clients a server connection for one transaction each.

    Args:
        server: where the databases are.

    Raises:
        LookupError: no pgbouncer is installed here.
        RuntimeError: it does not start.
    """

    def __init__(self, server: PostgresServer) -> None:
        program = find_pgbouncer()
        if program is None:
            raise LookupError("no pgbouncer is installed here (Debian's package: pgbouncer)")
        self.server = server
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="cu_market_pgbouncer_"))
        users = self.directory / "users.txt"
        users.write_text(f'"postgres" "{PASSWORD}"\n')
        settings = self.directory / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = host={server.host} port={server.port}\n"
            f"[pgbouncer]\nlisten_addr = {server.host}\nlisten_port = {self.port}\n"
            f"unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {users}\n"
            f"pool_mode = transaction\ndefault_pool_size = {SERVER_CONNECTIONS}\n"
            f"max_client_conn = 200\nserver_login_retry = 1\n"
        )
        user = unprivileged()
        if user:
            for path in (self.directory, users, settings):
                os.chown(path, user["user"], user["group"])
        with (self.directory / "log").open("wb") as log:
            self._process = spawn(
                [program, str(settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                **user,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self.directory / "log").read_text()
                self.close()
                raise RuntimeError(f"pgbouncer does not start: {said}")
            time.sleep(0.02)

    def url(self, database: str) -> str:
        """Returns a database's SQLAlchemy URL, through the pooler."""
        return self.server.url(database, self.port)

    def close(self) -> None:
        """Ends the pooler and removes its directory."""
        self._process.send_signal(signal.SIGTERM)  # at once; SIGINT would wait for its clients
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> PgBouncer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.server.host, self.port)) == 0
