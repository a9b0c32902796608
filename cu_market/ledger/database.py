"""Transactions on the ledger's database: begun, retried, explained, and kept from forks."""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from cu_market.ledger.dialects import BUSY_SECONDS, dialect_of
from cu_market.ledger.errors import LedgerError
from cu_market.ledger.location import shown

T = TypeVar("T")

OUTAGE_PAUSE_SECONDS = 0.1
"""About how long to wait before a lost server is asked again."""

_OPEN: weakref.WeakSet[Database] = weakref.WeakSet()


class Database:
    """Runs functions as transactions.

    A connection must not cross a fork: SQLite's file locks belong to the process, and a child that
    inherits an open file would think that it holds them. So before a fork the running transaction
    ends and idle connections are closed; parent and child each open their own when they need one.

    Attributes:
        url: where it is.
        dialect: its database's ways.
    """

    def __init__(self, url: URL) -> None:
        self.url = url
        self.dialect = dialect_of(url)
        self._engine = self.dialect.engine(url)
        self._turn = threading.RLock()
        self._has_answered = False
        _OPEN.add(self)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Returns what work returns, run on one consistent state.

        Raises:
            LedgerError: the database cannot be used.
        """
        return self._run(work, lambda c: self.dialect.transaction(c, is_write=False))

    def look(self, work: Callable[[Connection], T]) -> T:
        """Returns what work returns, which reads by one statement alone: that is consistent by
        itself, and saves two messages to a server.

        Raises:
            LedgerError: the database cannot be used.
        """
        return self._run(work, lambda _: nullcontext())

    def write(self, work: Callable[[Connection], T], *locks: str) -> T:
        """Returns what work returns, once all that it wrote is on the disk.

        Work may run more than once: when it lost to another transaction, it starts again from
        the state that this one left. Nothing of a run that raised is kept. A server that goes
        away is waited for, for ten seconds. When it went while it committed, nobody can tell
        whether it had: so all work is such that doing it again changes nothing.

        Args:
            locks: names; no two transactions that share one overlap.

        Raises:
            LedgerError: the database cannot be used.
        """
        return self._run(work, lambda c: self.dialect.transaction(c, is_write=True, locks=locks))

    def migrating(self, work: Callable[[Connection], T]) -> T:
        """Returns what work returns, run while no other process migrates."""

        def prepared(connection: Connection) -> T:
            self.dialect.prepare(connection)
            return work(connection)

        return self.write(prepared, "migration")

    def close(self) -> None:
        """Closes idle connections; the next transaction opens a new one."""
        with self._turn:
            self._engine.dispose()

    def _run(
        self,
        work: Callable[[Connection], T],
        begin: Callable[[Connection], AbstractContextManager[None]],
    ) -> T:
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                with (
                    self._in_turn(),
                    self._engine.connect() as connection,
                    begin(connection),
                ):
                    answer = work(connection)
                self._has_answered = True
                return answer
            except PoolTimeoutError as error:
                raise LedgerError(
                    f"ledger {shown(self.url)}: too many threads of this process use it at once "
                    f"({error}); let fewer wait for each other"
                ) from error
            except DBAPIError as error:
                pause_seconds = self._pause_after(error)
                if pause_seconds == 0 or time.monotonic() > deadline:
                    raise LedgerError(
                        f"ledger {shown(self.url)}: {self.dialect.explain(error)}"
                    ) from error
            time.sleep(random.uniform(0.5, 2) * pause_seconds)  # apart, lest the same two meet

    def _pause_after(self, error: DBAPIError) -> float:
        """Returns about how long to wait before trying again; 0: not at all."""
        if self.dialect.is_contention(error):
            return 0.001
        # A server that never answered is more likely misnamed than about to come back.
        return OUTAGE_PAUSE_SECONDS if self._has_answered and self.dialect.is_outage(error) else 0

    def _in_turn(self) -> AbstractContextManager[object]:
        return self._turn if self.dialect.is_serial else nullcontext()

    def before_fork(self) -> None:
        """Waits for the running transaction and closes idle connections."""
        self._turn.acquire()
        self._engine.dispose()

    def after_fork_in_parent(self) -> None:
        """Lets transactions run again."""
        self._turn.release()

    def after_fork_in_child(self) -> None:
        """Lets transactions run again; what other threads had in use stays theirs, untouched."""
        self._turn = threading.RLock()
        self._engine.dispose(close=False)


def _each(method: Callable[[Database], None]) -> Callable[[], None]:
    def call() -> None:
        for database in sorted(_OPEN, key=id):
            method(database)

    return call


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(
        before=_each(Database.before_fork),
        after_in_parent=_each(Database.after_fork_in_parent),
        after_in_child=_each(Database.after_fork_in_child),
    )
