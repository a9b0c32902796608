"""`cu-market provider`: which kinds there are, and whether one keeps what a provider must."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cu_market.cli.deployment import read_settings
from cu_market.cli.exits import CommandError, ExitCode
from cu_market.cli.homes import find_folder_or_none
from cu_market.cli.options import Home, Json
from cu_market.cli.output import make_console, make_table, write_json
from cu_market.domain.problem import InvalidInputError, Problem

if TYPE_CHECKING:
    import pytest
    from rich.console import RenderableType

    from cu_market.ledger.location import Reference

SUITE = "cu_market.conformance.configured"

provider_app = typer.Typer(help="Kinds of providers, and the suite that each must pass.")


@provider_app.command("list")
def provider_list(as_json: Json = False) -> None:
    """List the kinds of providers that are installed."""
    document = kinds_document()
    if as_json:
        write_json(document)
    else:
        make_console().print(kinds_table(document))


@provider_app.command("test")
def provider_test(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="One that is configured, or an installed kind.")
    ],
    only: Annotated[str, typer.Option("-k", help="Only tests whose words match.")] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Run the conformance suite on a provider: its offers, its workers, runs and their bills.

    Starts real workers where the provider does, and ends them. Needs pytest:
    pip install 'cu-market[conformance]'.
    """
    document = run_suite(find_tested(find_folder_or_none(home), name), only)
    if as_json:
        write_json(document)
    else:
        console = make_console()
        console.print(suite_verdict(document), markup=False)
        if document["passed"] < len(document["tests"]):
            console.print(suite_table(document))
    if document["failed"]:
        raise typer.Exit(int(ExitCode.FAILED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """What the suite is run on.

    Attributes:
        name: the provider's.
        options: as configured.
        ledger: where the ledger is that carries to its workers; None where it reaches them itself.
    """

    name: str
    options: Mapping[str, object]
    ledger: Reference | None = None


def find_tested(home: Path | None, name: str) -> Tested:
    """Returns a provider: as the home configures it, else of the kind of that name.

    Raises:
        InvalidInputError: neither, or options that cannot be used.
    """
    from cu_market.market.carriage import check_carriage
    from cu_market.market.settings import MarketSettings
    from cu_market.ral.registry import DEFAULT_CONFIG, list_kinds, load_providers

    settings = read_settings(home) if home is not None else MarketSettings()
    configured = settings.providers or DEFAULT_CONFIG
    if name in configured:
        options = {"kind": name, **configured[name]}
    elif name in list_kinds():
        options = {"kind": name}
    else:
        known = ", ".join(sorted({*configured, *list_kinds()}))
        remedy = f"name one that is configured or a kind: {known}"
        raise InvalidInputError(
            [Problem(where="provider", value=name, what="not known here", remedy=remedy)]
        )
    providers = load_providers({name: options})
    check_carriage(providers, settings)
    is_carried = any(provider.capabilities.carried for provider in providers)
    return Tested(name=name, options=options, ledger=settings.ledger_url if is_carried else None)


def run_suite(tested: Tested, only: str = "") -> dict[str, Any]:
    """Returns what came of each test of the conformance suite; standard error is told each.

    Args:
        tested: the provider.
        only: pytest's -k.

    Raises:
        CommandError: pytest is not installed, or found nothing to run.
    """
    try:
        import pytest
    except ImportError as error:
        raise CommandError(
            "the suite needs pytest: pip install 'cu-market[conformance]'"
        ) from error
    with (
        tempfile.TemporaryDirectory(prefix="cu_market_conformance_") as directory,
        _beyond_capture() as tell,
    ):
        collector = _Collector(tell)
        arguments = [
            *("-c", "/dev/null", "--rootdir", directory, "--basetemp", f"{directory}/tests"),
            *("--noconftest", "-p", "no:cacheprovider", "-p", "no:xdist"),
            *("-p", "cu_market.conformance.plugin", "--pyargs", SUITE, "-k", only, "-q"),
            *("--cu-market-provider", tested.name),
            *("--cu-market-options", json.dumps(dict(tested.options))),
        ]
        if tested.ledger is not None:
            arguments += ["--cu-market-ledger", json.dumps(tested.ledger)]
        output = StringIO()
        with redirect_stdout(output), redirect_stderr(output):
            code = int(pytest.main(arguments, plugins=[collector]))
    if code not in (0, 1) or not collector.tests:
        raise CommandError(f"pytest ended with code {code}: {output.getvalue().strip()[-2000:]}")
    counts = dict.fromkeys(("passed", "failed", "skipped"), 0)
    for test in collector.tests:
        counts[test["outcome"]] += 1
    told = {"provider": tested.name, "options": dict(tested.options)}
    return {**told, **counts, "tests": collector.tests}


class _Collector:
    """A pytest plugin that keeps each test's end."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tests: list[dict[str, Any]] = []
        self._tell = tell

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keeps a test's last word: its call's, or that of a fixture that failed or skipped."""
        if report.when != "call" and report.outcome == "passed":
            return
        words = report.nodeid.rpartition("::test_")[2].replace("_", " ")
        reason = ""
        if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
        elif report.outcome == "failed":
            reason = report.longreprtext.strip()
        self.tests.append({"test": words, "outcome": report.outcome, "reason": reason})
        self._tell(f"{report.outcome:8} {words}")


@contextmanager
def _beyond_capture() -> Iterator[Callable[[str], None]]:
    """Yields what writes lines on this process's standard error, wherever pytest has turned it."""
    with os.fdopen(os.dup(2), "w") as file:
        yield lambda line: print(line, file=file, flush=True)


def suite_verdict(document: Mapping[str, Any]) -> str:
    """Returns the result in one sentence."""
    return (
        f"Provider {document['provider']}: {document['passed']} passed, "
        f"{document['failed']} failed, {document['skipped']} skipped (not declared)."
    )


def suite_table(document: Mapping[str, Any]) -> RenderableType:
    """Returns what did not pass, with why."""
    rows = [
        (each["outcome"], each["test"], each["reason"].splitlines()[-1] if each["reason"] else "")
        for each in document["tests"]
        if each["outcome"] != "passed"
    ]
    return make_table("What did not pass", ("", "a provider must keep", "why not"), rows)


def kinds_document() -> dict[str, Any]:
    """Returns every kind that is installed."""
    from importlib.metadata import entry_points

    from cu_market.ral.registry import ENTRY_POINT_GROUP

    points = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name)
    return {
        "kinds": [
            {
                "kind": point.name,
                "class": point.value,
                "package": point.dist.name if point.dist is not None else "",
            }
            for point in points
        ]
    }


def kinds_table(document: Mapping[str, Any]) -> RenderableType:
    """Returns the kinds as a table."""
    rows = [(each["kind"], each["package"], each["class"]) for each in document["kinds"]]
    return make_table("Kinds of providers", ("kind", "package", "class"), rows)
