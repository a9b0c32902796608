"""All checks of a home, one after the other, each told as it ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from sqlalchemy.engine import make_url

from cu_market.cli.checks.finding import Finding, Subject, Verdict
from cu_market.cli.output import make_table
from cu_market.domain.problem import InvalidInputError

if TYPE_CHECKING:
    from dagster import DagsterInstance
    from rich.console import RenderableType

    from cu_market.cli.checks.provider import Needs
    from cu_market.market.settings import MarketSettings
    from cu_market.ral.carrier import Carrier
    from cu_market.ral.provider import Provider

_HERE = Subject("deployment")


def check_home(
    home: Path, workspace: Path | None, *, only: Sequence[str] = (), timeout_seconds: float
) -> Iterator[Finding]:
    """Yields every finding.

    Args:
        home: DAGSTER_HOME.
        workspace: a workspace.yaml, whose code is looked for wherever steps may run.
        only: names of providers; all that are configured where there are none.
        timeout_seconds: for each provider's worker to start and answer.
    """
    from dagster import DagsterInstance

    from cu_market.cli.checks.deployment import check_deployment
    from cu_market.deo.settings import instance_settings

    try:
        instance = DagsterInstance.from_config(str(home))
    except Exception as error:  # noqa: BLE001 - what is broken is what is looked for
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        remedy = "mend dagster.yaml; check that the storage's server is up and its variables set"
        yield _HERE.failed("Dagster's instance", said, remedy)
        return
    with instance:
        try:
            settings = instance_settings(instance)
        except InvalidInputError as error:
            for problem in error.problems:
                what = f"{problem.where}={problem.value!r}: {problem.what}"
                yield _HERE.failed("settings", what, problem.remedy)
            return
        yield _HERE.ok("settings", f"mode {settings.mode}, on failure {settings.on_market_failure}")
        yield from check_deployment(home, instance, settings)
        needs = needs_of(home, workspace, instance, settings, timeout_seconds)
        yield from _check_providers(settings, needs, only)


def _check_providers(
    settings: MarketSettings, needs: Needs, only: Sequence[str]
) -> Iterator[Finding]:
    from cu_market.cli.checks.provider import check_provider
    from cu_market.ledger.errors import LedgerError
    from cu_market.ral.registry import load_providers

    try:
        providers = load_providers(settings.providers)
    except InvalidInputError as error:
        for problem in error.problems:
            what = f"{problem.where}={problem.value!r}: {problem.what}"
            yield _HERE.failed("providers", what, problem.remedy)
        return
    for provider in providers:
        if not only or provider.name in only:
            subject = Subject(provider.name)
            try:
                carrier = _carrier_of(provider, settings)
            except InvalidInputError as error:
                for problem in error.problems:
                    what = f"{problem.where}={problem.value!r}: {problem.what}"
                    yield subject.failed("channel", what, problem.remedy)
                continue
            except LedgerError as error:
                yield subject.failed("channel", str(error), "mend the ledger first")
                continue
            work = partial(check_provider, provider, needs, carrier)
            yield from subject.tried("answers", work, "see its own words")


def _carrier_of(provider: Provider, settings: MarketSettings) -> Carrier | None:
    """Returns who carries to the provider's workers, where it needs that.

    Raises:
        InvalidInputError: nobody can.
    """
    from cu_market.ledger.sql import open_ledger
    from cu_market.market.carriage import check_carriage, find_carrier

    if not provider.capabilities.carried:
        return None
    check_carriage([provider], settings)
    return find_carrier([provider], settings, open_ledger(settings.resolved_ledger_url() or ""))


def needs_of(
    home: Path,
    workspace: Path | None,
    instance: DagsterInstance,
    settings: MarketSettings,
    timeout_seconds: float,
) -> Needs:
    """Returns what steps of this deployment need wherever they run."""
    from cu_market.cli.checks.provider import Needs
    from cu_market.dagster_compat.storage_location import postgres_url_of

    modules, files = code_of(workspace)
    urls = [url for url in (postgres_url_of(instance), settings.resolved_ledger_url()) if url]
    parsed = [make_url(url) for url in urls if not url.startswith("sqlite")]
    file = home / "dagster.yaml"
    config = yaml.safe_load(file.read_text()) if file.is_file() else {}
    return Needs(
        modules=tuple(modules),
        files=tuple(files),
        addresses=tuple(sorted({f"{url.host}:{url.port or 5432}" for url in parsed})),
        variables=tuple(sorted(set(variables_in(config)))),
        storage=Path(instance.storage_directory()),
        timeout_seconds=timeout_seconds,
    )


def code_of(workspace: Path | None) -> tuple[list[str], list[str]]:
    """Returns the modules and the files of a workspace's code locations."""
    modules: list[str] = []
    files: list[str] = []
    if workspace is None:
        return modules, files
    config = yaml.safe_load(workspace.read_text()) or {}
    for entry in config.get("load_from") or ():
        if not isinstance(entry, Mapping):
            continue
        kind, said = next(iter(entry.items()))
        if kind in ("python_module", "python_package"):
            key = "module_name" if kind == "python_module" else "package_name"
            modules.append(said if isinstance(said, str) else said[key])
        elif kind == "python_file":
            path = said if isinstance(said, str) else said["relative_path"]
            files.append(str((workspace.parent / path).resolve()))
    return modules, files


def variables_in(config: Any) -> Iterator[str]:
    """Yields the environment variables that a configuration refers to."""
    if isinstance(config, Mapping):
        if set(config) == {"env"} and isinstance(config["env"], str):
            yield config["env"]
        else:
            for value in config.values():
                yield from variables_in(value)
    elif isinstance(config, list):
        for value in config:
            yield from variables_in(value)


def findings_document(home: Path, findings: Sequence[Finding]) -> dict[str, Any]:
    """Returns the findings ready for JSON."""
    counts = {v.value: sum(f.verdict is v for f in findings) for v in Verdict}
    return {"home": str(home), **counts, "findings": [f.to_record() for f in findings]}


def findings_table(findings: Sequence[Finding]) -> RenderableType:
    """Returns the findings as a table, one row each."""
    rows = [(f.subject, f.check, f.verdict.value, f.found, f.remedy) for f in findings]
    return make_table("What was tried", ("of", "check", "", "found", "what to do"), rows)
