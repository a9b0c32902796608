"""`cu-market pse evaluate`: methods on a trace, as a document, a table and a file of attempts."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cu_market.cli.output import make_table
from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.domain.spec import Risk
from cu_market.pse.protocols.cold import cold_tasks
from cu_market.pse.protocols.compare import (
    COLD,
    OURS,
    WARM,
    Figures,
    Setting,
    figures_of,
    lenders_of_trace,
    methods,
    replay,
)
from cu_market.pse.protocols.replay import Replay
from cu_market.pse.protocols.warm import MIN_ROWS, SEEDS, warm_processes
from cu_market.pse.traces.nextflow import parse_nextflow
from cu_market.pse.traces.task import Trace
from cu_market.pse.traces.wfformat import parse_wfformat

if TYPE_CHECKING:
    from rich.console import RenderableType

ATTEMPT_COLUMNS = (
    "seed",
    "process",
    "row",
    "attempt",
    "allocated_bytes",
    "memory_p10_bytes",
    "memory_p90_bytes",
    "runtime_p10_seconds",
    "runtime_p90_seconds",
    "history_count",
)


def evaluate_trace(
    file: Path,
    *,
    format: str | None,
    protocol: str,
    priors: Sequence[Path],
    is_coarse: bool,
    risk: Risk,
    seed_count: int,
    ttf: float,
    attempts_out: Path | None,
) -> dict[str, Any]:
    """Returns the figures of every method; writes our attempts where asked to.

    Raises:
        InvalidInputError: a file that cannot be read, options that do not go together, or a trace
            of which the protocol keeps no task.
    """
    _check(protocol, priors, is_coarse)
    trace = read_trace(file, format)
    setting = Setting(
        protocol=str(protocol),
        seeds=SEEDS[:seed_count],
        risk=risk,
        ttf=ttf,
        is_coarse=is_coarse,
        elsewhere=tuple(lenders_of_trace(read_trace(path, None).tasks) for path in priors),
    )
    _check_tasks(file, trace, setting)
    found: dict[str, Any] = {}
    for name, make in methods(setting).items():
        replays = replay(trace.tasks, make, setting, time.perf_counter)
        found[name] = method_document(figures_of(replays))
        if name == OURS and attempts_out is not None:
            write_attempts(attempts_out, replays)
    return {
        "trace": trace.name,
        "protocol": setting.protocol,
        "seeds": list(setting.seeds) if setting.protocol == WARM else [0],
        "risk": str(risk),
        "unreadable": dict(trace.bad),
        "methods": found,
    }


def read_trace(path: Path, format: str | None) -> Trace:
    """Returns a trace from a file.

    Raises:
        InvalidInputError: there is no such file, or it is not what it should be.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            [
                Problem(
                    where="trace",
                    value=str(path),
                    what=f"cannot be read: {error}",
                    remedy="give a text file",
                )
            ]
        ) from error
    is_wfformat = format == "wfformat" if format else path.suffix == ".json"
    return (parse_wfformat if is_wfformat else parse_nextflow)(text, path.stem)


def method_document(figures: Figures) -> dict[str, Any]:
    """Returns one method's figures by name, None where it has no such figure."""
    failed = figures.mean("failed_attempts")
    document: dict[str, Any] = {
        "wastage_gbh_mean": _number(figures.mean("wastage_gbh")),
        "wastage_gbh_by_seed": {
            str(seed): _number(value) for seed, value in figures.wastage_gbh_by_seed.items()
        },
        "failed_attempts_mean": _number(failed),
    }
    for name in (
        "failed_tasks_ratio",
        "memory_coverage",
        "runtime_coverage",
        "memory_mdape",
        "runtime_mdape",
        "memory_pinball",
        "runtime_pinball",
    ):
        document[name] = _number(figures.mean(name))
    document["ms_per_prediction"] = _number(figures.ms_per_prediction)
    document["ms_per_update"] = _number(figures.ms_per_update)
    return document


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def attempt_rows(replays: Sequence[Replay]) -> Iterator[tuple[object, ...]]:
    """Yields one row of ATTEMPT_COLUMNS per allocation, in the order they were made."""
    for each in replays:
        for task in each.tasks:
            memory, runtime = task.prediction.memory, task.prediction.runtime
            ends = (memory.p10, memory.p90, runtime.p10, runtime.p90)
            written = tuple("" if math.isnan(end) else repr(end) for end in ends)
            for attempt, size in enumerate(task.allocations, start=1):
                yield (
                    each.seed,
                    task.process,
                    task.row,
                    attempt,
                    repr(size),
                    *written,
                    task.prediction.history_count,
                )


def write_attempts(path: Path, replays: Sequence[Replay]) -> None:
    """Writes our allocations as CSV.

    Raises:
        InvalidInputError: the file cannot be written.
    """
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(ATTEMPT_COLUMNS)
            writer.writerows(attempt_rows(replays))
    except OSError as error:
        raise InvalidInputError(
            [
                Problem(
                    where="--attempts-out",
                    value=str(path),
                    what=f"cannot be written: {error}",
                    remedy="give a file in a directory that exists",
                )
            ]
        ) from error


def evaluation_table(document: Mapping[str, Any]) -> RenderableType:
    """Returns the document as a table, a method a row."""
    columns = (
        "method",
        "wastage GB·h",
        "failed attempts",
        "memory 10-90 %",
        "runtime 10-90 %",
        "memory error",
        "runtime error",
        "ms/prediction",
        "ms/update",
    )
    rows = [
        (
            name,
            f"{each['wastage_gbh_mean']:,.1f}",
            f"{each['failed_attempts_mean']:,.1f}",
            _percent(each["memory_coverage"]),
            _percent(each["runtime_coverage"]),
            _percent(each["memory_mdape"]),
            _percent(each["runtime_mdape"]),
            f"{each['ms_per_prediction']:.2f}",
            f"{each['ms_per_update']:.2f}",
        )
        for name, each in document["methods"].items()
    ]
    seeds = ", ".join(str(seed) for seed in document["seeds"])
    title = f"{document['trace']}: protocol {document['protocol']}, risk {document['risk']}"
    return make_table(f"{title}, seeds {seeds}", columns, rows, right=columns[1:])


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _check(protocol: str, priors: Sequence[Path], is_coarse: bool) -> None:
    problems = [
        Problem(
            where=option,
            value=value,
            what="belongs to the cold protocol: the warm one has a history from the start",
            remedy=f"add --protocol {COLD}, or leave it out",
        )
        for option, value, is_given in (
            ("--prior", ", ".join(str(path) for path in priors), bool(priors)),
            ("--coarse-bytes", "true", is_coarse),
        )
        if is_given and protocol != COLD
    ]
    if problems:
        raise InvalidInputError(problems)


def _check_tasks(file: Path, trace: Trace, setting: Setting) -> None:
    is_warm = setting.protocol == WARM
    if warm_processes(trace.tasks) if is_warm else cold_tasks(trace.tasks):
        return
    what = (
        f"no process has {MIN_ROWS} tasks with an rss and a realtime above 0"
        if is_warm
        else "no task has a peak_rss, a realtime and a start"
    )
    raise InvalidInputError(
        [
            Problem(
                where=f"trace, protocol {setting.protocol}",
                value=str(file),
                what=what,
                remedy="try --protocol cold" if is_warm else "give a trace with these columns",
            )
        ]
    )
