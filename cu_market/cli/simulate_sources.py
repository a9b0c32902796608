"""What a simulation is given, told apart and read; what is wrong with it is told all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cu_market.cli.deployment import open_deployment
from cu_market.cli.exits import NothingFoundError
from cu_market.cli.homes import find_home
from cu_market.domain.problem import InvalidInputError, Problem

if TYPE_CHECKING:
    from cu_market.sim.recorded import Recorded

HISTORY = "--history"


def tell_apart(
    files: Sequence[Path], catalogs: Sequence[Path], policies: Sequence[str]
) -> tuple[list[Path], list[Path], list[str]]:
    """Returns workflows, catalogues and policies where an option was given several values at once:
    ``--catalog a.csv b.csv`` leaves ``b.csv`` among the workflows."""
    from cu_market.sim.study import POLICIES

    more = [path for path in files if path.suffix.lower() == ".csv"]
    names = [str(path) for path in files if str(path) in POLICIES and not path.exists()]
    workflows = [path for path in files if path not in more and str(path) not in names]
    return workflows, [*catalogs, *more], [*policies, *names]


def read_sources(
    workflows: Sequence[Path],
    runs: Sequence[str],
    said_home: str | None,
    *,
    history: Sequence[Path] = (),
    history_runs: Sequence[str] = (),
    errors: Mapping[str, float] | None = None,
) -> tuple[list[Recorded], list[Recorded]]:
    """Returns what is to be replayed, and what the market has seen before, files before runs.

    Args:
        workflows, runs: to be replayed.
        said_home: whose the runs are, as find_home takes it.
        history, history_runs: seen before, in this order.
        errors: of forecasts, by option: with history none may be above 0.

    Raises:
        InvalidInputError: what is wrong with any file; neither a file nor a run to replay; history
            beside errors.
        NothingFoundError: no such run, or none of its steps was measured.
        LedgerError: the ledger cannot be opened.
    """
    recorded, problems = _read_files(workflows)
    seen, more = _read_files(history)
    problems += [replace(each, where=HISTORY) for each in more]
    problems += [
        Problem(where=HISTORY, value=one.place, what="it has no tasks", remedy="give one that has")
        for one in seen
        if not one.tasks
    ]
    if history or history_runs:
        problems += _erring(errors or {})
    if not workflows and not runs:
        what, remedy = "nothing to replay", "give WfFormat files, or --run with a run of this home"
        problems.append(Problem(where="WORKFLOW.json", value="", what=what, remedy=remedy))
    if problems:
        raise InvalidInputError(problems)
    if runs or history_runs:
        home = find_home(said_home)
        recorded += _measured_runs(home, runs)
        seen += _measured_runs(home, history_runs)
    return recorded, seen


def _erring(errors: Mapping[str, float]) -> list[Problem]:
    return [
        Problem(
            where=option,
            value=f"{sigma:g}",
            what="forecasts are learned from history, or err by what is given: not both",
            remedy=f"leave it out, or {HISTORY} and {HISTORY}-run",
        )
        for option, sigma in errors.items()
        if sigma
    ]


def _read_files(paths: Sequence[Path]) -> tuple[list[Recorded], list[Problem]]:
    from cu_market.sim.recorded import recorded_file

    found: list[Recorded] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            found.append(recorded_file(path))
        except InvalidInputError as error:
            problems += error.problems
    return found, problems


def _measured_runs(home: Path, runs: Sequence[str]) -> list[Recorded]:
    from dagster import DagsterInstance

    from cu_market.cli.outlines import read_outline
    from cu_market.sim.recorded import recorded_run

    found: list[Recorded] = []
    if not runs:
        return found
    with open_deployment(home) as deployment, DagsterInstance.from_config(str(home)) as instance:
        for said in runs:
            outline = read_outline(instance, said)
            one = recorded_run(outline, deployment.ledger.usages(run_id=outline.run_id))
            if not one.tasks:
                raise NothingFoundError(
                    f"run {outline.run_id}: no step of it was measured to a good end; "
                    "`cu-market ledger` lists the runs that the market ran"
                )
            found.append(one)
    return found
