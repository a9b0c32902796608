"""Dagster's daemon and webserver as children of a command: started, watched, ended by their ids."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from cu_market.cli.exits import CommandError

END_SECONDS = 15
"""From the request to end until a child is killed: the daemon ends its code servers first."""


def find_program(name: str) -> str:
    """Returns the path of a program of this interpreter's environment.

    Raises:
        CommandError: it is not installed.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        extra = "[ui]" if name == "dagster-webserver" else ""
        raise CommandError(f"{name} is not installed: pip install 'cu-market{extra}'")
    return found


class Child:
    """A child in its own process group, so that its own children end with it.

    Attributes:
        name: for messages.
        log_path: file that takes what it prints.
    """

    def __init__(self, name: str, arguments: Sequence[str], home: Path, log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                arguments,
                env={**os.environ, "DAGSTER_HOME": str(home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # ^C reaches us alone; we end it in order
            )

    @property
    def exit_code(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self._process.poll()

    def check(self) -> None:
        """Raises CommandError, with the end of its log, if it has ended."""
        if self.exit_code is None:
            return
        tail = self.log_path.read_text(errors="replace").splitlines()[-15:]
        said = "\n  ".join(tail)
        raise CommandError(
            f"{self.name} ended with code {self.exit_code}; see {self.log_path}:\n  {said}"
        )

    def end(self) -> None:
        """Asks it to end, waits, and kills what is left of its group."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # the group's id is the child's
        self._process.wait()


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Lets SIGTERM end what is inside as ^C does: in order. Python has no such default."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def children(*started: tuple[str, Sequence[str]], home: Path) -> Iterator[list[Child]]:
    """Yields children that run in a home; ends them all, whatever happens.

    Args:
        started: (program, arguments) each; its log is <home>/logs/<program>.log.
        home: DAGSTER_HOME.
    """
    logs = home / "logs"
    logs.mkdir(exist_ok=True)
    running: list[Child] = []
    try:
        for name, arguments in started:
            program = find_program(name)
            running.append(Child(name, [program, *arguments], home, logs / f"{name}.log"))
        yield running
    finally:
        for child in running:
            child.end()
