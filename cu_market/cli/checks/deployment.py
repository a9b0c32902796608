"""Checks of the deployment itself: settings, secrets, versions, storage, ledger, clocks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from cu_market.cli.checks.finding import Finding, Subject

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from cu_market.market.settings import MarketSettings

SKEW_WARNING_SECONDS = 5.0
SKEW_SECONDS = 30.0
"""Apart by as much as a lease lasts, clocks end leases that are alive."""

_HERE = Subject("deployment")
_URL_PASSWORD = re.compile(r"://[^/@\s:]+:[^/@\s]+@")


def check_deployment(
    home: Path, instance: DagsterInstance, settings: MarketSettings
) -> Iterator[Finding]:
    """Yields what is found of a home that could be opened."""
    yield from _launcher(instance)
    yield from _HERE.tried("credentials", lambda: _secrets(home), "mend dagster.yaml")
    yield from _HERE.tried("versions", _versions, "pip install --upgrade 'cu-market[all]'")
    yield from _HERE.tried(
        "Dagster's storage", lambda: _storage(instance), "check that its server is up; migrate it"
    )
    yield from _HERE.tried(
        "ledger",
        lambda: _ledger(settings, str(home)),
        "check its URL, server, user and rights; see docs/configuration.md",
    )


def judge_skew(subject: Subject, whose: str, seconds: float) -> Finding:
    """Returns what a clock that is ahead by so many seconds (behind, if negative) means."""
    found = f"{whose} is {abs(seconds):.1f} s {'ahead' if seconds > 0 else 'behind'}"
    remedy = "set both clocks by the same time server (chrony, systemd-timesyncd)"
    if abs(seconds) > SKEW_SECONDS:
        return subject.failed("clock", found, remedy)
    if abs(seconds) > SKEW_WARNING_SECONDS:
        return subject.warning("clock", found, remedy)
    return subject.ok("clock", found)


def _launcher(instance: DagsterInstance) -> Iterator[Finding]:
    name = type(instance.run_launcher).__name__
    if name.startswith("Market"):
        yield _HERE.ok("run launcher", name)
    else:
        yield _HERE.warning(
            "run launcher",
            f"{name}: runs are auctioned only where their executor is the market's",
            "in dagster.yaml, run_launcher: {module: cu_market, class: MarketRunLauncher}",
        )


def _secrets(home: Path) -> Iterator[Finding]:
    file = home / "dagster.yaml"
    config = yaml.safe_load(file.read_text()) if file.is_file() else {}
    written = sorted(_literal_secrets(config or {}, ""))
    if not written:
        yield _HERE.ok("credentials", "none is written in dagster.yaml")
    for where in written:
        yield _HERE.warning(
            "credentials",
            f"dagster.yaml: {where} is a secret in plain text",
            "write {env: NAME} there, and set that variable where Dagster runs",
        )


def _literal_secrets(config: Any, where: str) -> Iterator[str]:
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from _literal_secrets(value, f"{where}.{key}".lstrip("."))
    elif isinstance(config, list):
        for number, value in enumerate(config):
            yield from _literal_secrets(value, f"{where}[{number}]")
    elif isinstance(config, str) and config:
        is_secret = re.search(r"password|secret|token$", where.rpartition(".")[2])
        if is_secret or _URL_PASSWORD.search(config):
            yield where


def _versions() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    wrong = []
    for text in metadata.requires("cu-market") or ():
        need = Requirement(text)
        try:
            has = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            if need.marker is None:
                wrong.append(f"{need.name} is missing")
            continue
        if not need.specifier.contains(has, prereleases=True):
            wrong.append(f"{need.name} {has} is not {need.specifier}")
    for each in sorted(set(wrong)):
        yield _HERE.failed("versions", each, "pip install --upgrade 'cu-market[all]'")
    if not wrong:
        names = ("cu-market", "dagster", "sqlalchemy")
        yield _HERE.ok("versions", ", ".join(f"{name} {metadata.version(name)}" for name in names))


def _storage(instance: DagsterInstance) -> Iterator[Finding]:
    from cu_market.dagster_compat.storage_location import postgres_url_of

    count = instance.get_runs_count()
    where = "PostgreSQL" if postgres_url_of(instance) else type(instance.run_storage).__name__
    yield _HERE.ok("Dagster's storage", f"{where} answers: {count} runs")


def _ledger(settings: MarketSettings, home: str) -> Iterator[Finding]:
    from cu_market.domain.lease import RunLease
    from cu_market.market.opening import open_instance_ledger

    with open_instance_ledger(settings, home) as ledger:
        runs: list[RunLease] = list(ledger.live_runs())
        # Writes, and changes nothing.
        ledger.release_awards("cu-market check", now=datetime.now(UTC))
        yield _HERE.ok("ledger", f"{ledger!r} can be read and written: {len(runs)} live runs")
        before = datetime.now(UTC)
        server = ledger.server_clock()
        if server is not None:
            now = before + (datetime.now(UTC) - before) / 2
            skew = (server - now).total_seconds()
            yield judge_skew(_HERE, "the ledger's server", skew)
