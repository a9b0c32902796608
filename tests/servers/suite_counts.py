"""A pytest plugin that counts what ran of each suite that needs a server, and can forbid skipping.

A suite that skips itself where its server is missing passes without having run: so each session
says how many ran, and with ``--forbid-skips`` a skip is a failure.
"""

from __future__ import annotations

from collections import Counter

import pytest

SUITES = ("postgres", "pgbouncer", "kubernetes", "integration")
"""Marks; a test may have several."""

_ran: Counter[str] = Counter()
_skipped: Counter[str] = Counter()
_told: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds ``--forbid-skips``."""
    parser.addoption("--forbid-skips", action="store_true", help="fail where a test was skipped")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Counts a test once: its call, or the fixture that skipped it."""
    suites = [suite for suite in SUITES if suite in report.keywords]
    if report.skipped:
        _skipped.update(suites)
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        _told.append(f"{report.nodeid}: {reason}")
    elif report.when == "call":
        _ran.update(suites)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Prints a line per suite, and what may not have been skipped."""
    for suite in SUITES:
        if _ran[suite] or _skipped[suite]:
            terminalreporter.write_line(
                f"suite {suite}: {_ran[suite]} ran, {_skipped[suite]} skipped"
            )
    if config.getoption("--forbid-skips"):
        for line in _told:
            terminalreporter.write_line(f"FORBIDDEN to skip {line}", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turns a session that skipped what it may not into a failed one."""
    is_worker = hasattr(session.config, "workerinput")  # xdist's controller decides
    if session.config.getoption("--forbid-skips") and _told and not is_worker:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
