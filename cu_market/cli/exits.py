"""Exit codes, and how an error becomes one. docs/cli.md documents them; a test compares."""

from __future__ import annotations

from enum import IntEnum

from cu_market.domain.problem import CUMarketError, InvalidInputError


class ExitCode(IntEnum):
    """What a command's exit code says."""

    OK = 0
    FAILED = 1
    BAD_INPUT = 2
    NOTHING_FOUND = 3
    LEDGER = 4
    INTERRUPTED = 130


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "a run, a process or a wait failed; standard error says which and why",
    ExitCode.BAD_INPUT: "an argument, setting or file cannot be used; every problem is listed",
    ExitCode.NOTHING_FOUND: "no such run, step or row",
    ExitCode.LEDGER: "the ledger cannot be opened or written",
    ExitCode.INTERRUPTED: "ended by ^C",
}


class NothingFoundError(CUMarketError):
    """What was asked for is not there. The message says the remedy."""


class CommandError(CUMarketError):
    """A command could not do its work. The message says why and what to do."""


def exit_code_of(error: BaseException) -> ExitCode:
    """Returns the exit code that an error ends a command with."""
    from cu_market.ledger.errors import LedgerError

    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if isinstance(error, InvalidInputError):
        return ExitCode.BAD_INPUT
    if isinstance(error, NothingFoundError):
        return ExitCode.NOTHING_FOUND
    if isinstance(error, LedgerError):
        return ExitCode.LEDGER
    return ExitCode.FAILED


EXTRAS = {
    "numpy": "market",
    "pulp": "market",
    "highspy": "market",
    "simpy": "market",
    "pandas": "pse",
    "sklearn": "pse",
    "matplotlib": "pse",
    "mlflow": "pse",
    "dagster_k8s": "k8s",
    "dagster_postgres": "postgres",
    "dagster_webserver": "ui",
}
"""Which extra of this package installs a module."""


def is_told(error: BaseException) -> bool:
    """Whether an error is one that a person can mend, and so is told without a traceback."""
    if isinstance(error, ModuleNotFoundError):
        return _missing(error) in EXTRAS
    if isinstance(error, OSError):
        return error.filename is not None
    return isinstance(error, CUMarketError | KeyboardInterrupt)


def _missing(error: ModuleNotFoundError) -> str:
    return (error.name or "").partition(".")[0]


def lines_of(error: BaseException) -> list[str]:
    """Returns what standard error is told: each problem on a line of its own."""
    if isinstance(error, ModuleNotFoundError) and _missing(error) in EXTRAS:
        name = _missing(error)
        return [f"{name!r} is not installed; install cu-market[{EXTRAS[name]}]"]
    if isinstance(error, OSError) and error.filename is not None:
        remedy = "give another path, or mend what is there"
        return [f"{error.filename}: {error.strerror or type(error).__name__}; {remedy}"]
    if isinstance(error, KeyboardInterrupt):
        return ["interrupted"]
    if isinstance(error, InvalidInputError):
        return [str(problem).replace("\n", " ") for problem in error.problems]
    return [str(error)]
