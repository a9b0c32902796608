"""`cu-market pse import`: what people already have becomes history, once, with bad rows named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

from cu_market.cli.deployment import Deployment
from cu_market.cli.output import make_error_console
from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.domain.usage import Usage

BATCH = 1000


class Source(StrEnum):
    """What is imported."""

    NEXTFLOW = "nextflow"
    WFFORMAT = "wfformat"
    PROMETHEUS = "prometheus"
    DAGSTER = "dagster"


def read_source(said: str | None) -> Source | None:
    """Returns the source that was named, or None.

    Raises:
        InvalidInputError: there is no such.
    """
    files = {str(each): each for each in Source if each is not Source.DAGSTER}
    if said is None or said in files:
        return files.get(said or "")
    problem = Problem(
        where="--format", value=said, what="no such format", remedy=f"one of {', '.join(files)}"
    )
    raise InvalidInputError([problem])


def import_file(
    deployment: Deployment, file: Path, source: Source | None, location: str
) -> dict[str, Any]:
    """Imports a file; returns what was new, what was known, what was bad.

    Raises:
        InvalidInputError: it cannot be read as what it is said to be.
    """
    if not file.is_file():
        problem = Problem(
            where="FILE", value=str(file), what="no such file", remedy="name a trace or metrics"
        )
        raise InvalidInputError([problem])
    bad: Counter[str] = Counter()
    text = file.read_text(encoding="utf-8", errors="replace")
    kind = source or _guess(file, text)
    return _keep(deployment, _read(kind, text, file.stem, location, bad), file.name, kind, bad)


def import_events(deployment: Deployment, runs: int) -> dict[str, Any]:
    """Imports the steps of the home's newest finished runs from Dagster's event log."""
    from dagster import DagsterInstance

    from cu_market.dagster_compat.event_history import event_usages

    bad: Counter[str] = Counter()
    with DagsterInstance.from_config(str(deployment.home)) as instance:
        found = event_usages(instance, limit=runs, bad=bad)
        return _keep(deployment, found, "the event log", Source.DAGSTER, bad)


def import_lines(document: dict[str, Any]) -> list[str]:
    """Returns what a person reads."""
    lines = [
        f"{document['source']} ({document['format']}): {document['new']} attempts are new, "
        f"{document['known']} were known, of {document['steps']} steps"
    ]
    lines += [f"left out: {count} x {what}" for what, count in document["bad"].items()]
    return lines


def _guess(file: Path, text: str) -> Source:
    if file.suffix != ".json":
        return Source.NEXTFLOW
    return Source.WFFORMAT if '"workflow"' in text[:100_000] else Source.PROMETHEUS


def _read(kind: Source, text: str, name: str, location: str, bad: Counter[str]) -> Iterator[Usage]:
    from cu_market.pse.imports.prometheus import usages_of_metrics
    from cu_market.pse.imports.tasks import usages_of_trace
    from cu_market.pse.traces.nextflow import parse_nextflow
    from cu_market.pse.traces.wfformat import parse_wfformat

    if kind is Source.PROMETHEUS:
        yield from usages_of_metrics(text, name=name, location=location, bad=bad)
        return
    parse = parse_wfformat if kind is Source.WFFORMAT else parse_nextflow
    trace = parse(text, name)
    bad.update({f"value of {what}": count for what, count in trace.bad.items()})
    yield from usages_of_trace(trace, location=location, bad=bad)


def _keep(
    deployment: Deployment, usages: Iterable[Usage], name: str, kind: Source, bad: Counter[str]
) -> dict[str, Any]:
    """Writes usages in batches; shows how far it is where somebody looks on."""
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    new = total = 0
    steps = set()
    batch: list[Usage] = []
    columns = (TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=make_error_console(), transient=True) as bar:
        task = bar.add_task(f"{name}: 0 attempts", total=None)
        for usage in usages:
            batch.append(usage)
            steps.add(usage.identity)
            total += 1
            if len(batch) >= BATCH:
                new += deployment.ledger.keep_usages(batch)
                batch = []
                bar.update(task, description=f"{name}: {total} attempts")
        new += deployment.ledger.keep_usages(batch)
    return {
        "source": name,
        "format": str(kind),
        "attempts": total,
        "new": new,
        "known": total - new,
        "steps": len(steps),
        "bad": dict(sorted(bad.items())),
    }
