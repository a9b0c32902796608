"""A private PostgreSQL server, started from the system's own binaries and gone with its directory.

Nothing of the machine is used but the binaries: own directory, own port on loopback, own user. The
server refuses to run as root, so as root it is started as ``postgres`` (or ``nobody``).
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg2

PASSWORD = "a private p@ss/word"
"""Needs escaping in a URL: what forgets it fails here first."""

PASSWORD_VARIABLE = "CU_MARKET_TEST_POSTGRES_PASSWORD"
"""Where a dagster.yaml finds it."""

START_SECONDS = 240.0


def find_binaries() -> Path | None:
    """Returns the directory of initdb and postgres, the newest version's, or None."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).resolve().parent] if on_path else []
    found += Path("/usr/lib/postgresql").glob("*/bin")
    found += [Path("/usr/local/pgsql/bin"), *Path("/opt/homebrew/opt").glob("postgresql*/bin")]
    whole = [path for path in found if (path / "initdb").exists() and (path / "postgres").exists()]
    return max(
        whole, key=lambda path: [int(n) for n in re.findall(r"\d+", str(path))], default=None
    )


def unprivileged() -> Mapping[str, Any]:
    """Returns what subprocess needs to run a program as nobody that may do harm."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise LookupError("as root a PostgreSQL needs a user 'postgres' or 'nobody' to run as")


def free_port(host: str = "127.0.0.1") -> int:
    """Returns a port that nobody listens on now.

    It is bound later, and again after a restart: so it is none of those that Linux gives to
    connections (32768 and up), any of which may have it by then.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((host, port))
            return port


class PostgresServer:
    """A server and its databases. Starts at construction.

    Args:
        listen: addresses that it listens on; any but loopback takes a password all the same.
        is_durable: whether what is committed is synced to the disk; off, a test is quicker, and
            what was committed still survives the server's death, though not the machine's.
        settings: more of postgresql.conf.

    Raises:
        LookupError: the binaries or an unprivileged user are not there.
        RuntimeError: it does not start.
    """

    def __init__(
        self,
        *,
        listen: Sequence[str] = ("127.0.0.1",),
        is_durable: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        binaries = find_binaries()
        if binaries is None:
            raise LookupError("no PostgreSQL is installed here (Debian's package: postgresql)")
        self._binaries = binaries
        self.host = "127.0.0.1"
        self.port = free_port()
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        # Not below pytest's directories, which only their owner may enter.
        self.directory = Path(tempfile.mkdtemp(prefix="cu_market_postgres_"))
        try:
            self._initialise(listen, is_durable, settings or {})
            self.start()
        except BaseException:
            self.close()
            raise

    def _initialise(
        self, listen: Sequence[str], is_durable: bool, settings: Mapping[str, str]
    ) -> None:
        secret = self.directory / "password"
        secret.write_text(PASSWORD)
        user = unprivileged()
        if user:
            for path in (self.directory, secret):
                os.chown(path, user["user"], user["group"])
        done = subprocess.run(
            [
                *(self._binaries / "initdb", "-D", self.data, "-U", "postgres", "--no-sync"),
                *("--auth=scram-sha-256", f"--pwfile={secret}", "--locale=C.UTF-8", "-E", "UTF8"),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.directory,
            **user,
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr}")
        durability = {} if is_durable else {"fsync": "off", "full_page_writes": "off"}
        lines = {
            "listen_addresses": f"'{','.join(listen)}'",
            "port": str(self.port),
            "unix_socket_directories": "''",
            "max_connections": "200",
            "shared_buffers": "64MB",
            "deadlock_timeout": "200ms",
            **durability,
            **settings,
        }
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in lines.items())
        if set(listen) - {"127.0.0.1"}:
            with (self.data / "pg_hba.conf").open("a") as file:
                file.write("host all all all scram-sha-256\n")

    @property
    def data(self) -> Path:
        """The server's data directory."""
        return self.directory / "data"

    def start(self) -> None:
        """Starts the server and returns once it answers. Does nothing while it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        with (self.directory / "log").open("ab") as log:
            self._process = spawn(
                [self._binaries / "postgres", "-D", self.data],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                **unprivileged(),
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.directory / "log").read_text()[-4000:])
            time.sleep(0.02)

    def stop(self) -> None:
        """Stops the server as an administrator does in a hurry: sessions are ended."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kills the server, every process of it, as a machine that loses its power does."""
        process = self._process
        assert process is not None
        children = _children(process.pid)
        # Stopped first, lest it starts a new child for each that dies.
        process.send_signal(signal.SIGSTOP)
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(120)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def close(self) -> None:
        """Ends the server and removes its directory."""
        self._end(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> PostgresServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- databases

    def create_database(self) -> str:
        """Returns the name of a new, empty database."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def drop_database(self, name: str) -> None:
        """Drops a database, whoever is connected to it."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def execute(self, statement: str, *values: object, database: str = "postgres") -> list[Any]:
        """Returns the rows of a statement, run on a connection of its own."""
        with self._connected(database) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall()) if cursor.description else []

    def url(self, database: str = "postgres", port: int | None = None) -> str:
        """Returns a database's SQLAlchemy URL."""
        password = PASSWORD.replace("@", "%40").replace("/", "%2F").replace(" ", "%20")
        where = f"{self.host}:{port or self.port}/{database}"
        return f"postgresql+psycopg2://postgres:{password}@{where}"

    @contextlib.contextmanager
    def _connected(self, database: str) -> Iterator[Any]:
        connection = psycopg2.connect(
            host=self.host,
            port=self.port,
            user="postgres",
            password=PASSWORD,
            dbname=database,
            connect_timeout=60,
        )
        connection.autocommit = True
        try:
            yield connection
        finally:
            connection.close()

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg2.OperationalError:
            return False
        return True


_KEEPER = ThreadPoolExecutor(1, thread_name_prefix="servers' keeper")
"""Starts the servers: Linux means the parent's *thread*, and a test's own threads end early."""


def spawn(command: Sequence[str | Path], **options: Any) -> subprocess.Popen[bytes]:
    """Starts a server that no ^C in the tests reaches, and that dies with a killed session."""
    return _KEEPER.submit(
        subprocess.Popen,
        command,
        start_new_session=True,
        preexec_fn=die_with_parent,
        **options,
    ).result()


def die_with_parent() -> None:
    """Asks Linux for SIGQUIT when a killed session has died: to both servers, shut down at once."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)  # PR_SET_PDEATHSIG


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def postgres_storage(server: PostgresServer, database: str) -> str:
    """Returns the storage of a dagster.yaml; the password is named, not told."""
    return (
        "storage:\n  postgres:\n    postgres_db:\n"
        f"      hostname: {server.host}\n      port: {server.port}\n"
        f"      username: postgres\n      password: {{env: {PASSWORD_VARIABLE}}}\n"
        f"      db_name: {database}\n      scheme: postgresql+psycopg2\n"
    )
