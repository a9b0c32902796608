"""What a simulation is given, told apart and read; what is wrong with it is told all at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cu_market.cli.deployment import open_deployment
from cu_market.cli.exits import NothingFoundError
from cu_market.cli.homes import find_home
from cu_market.domain.problem import InvalidInputError, Problem

if TYPE_CHECKING:
    from cu_market.sim.recorded import Recorded


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


def read_recorded(
    workflows: Sequence[Path], runs: Sequence[str], said_home: str | None
) -> list[Recorded]:
    """Returns what the files and the runs recorded.

    Raises:
        InvalidInputError: what is wrong with any file; neither a file nor a run.
        NothingFoundError: no such run, or none of its steps was measured.
        LedgerError: the ledger cannot be opened.
    """
    from cu_market.sim.recorded import recorded_file

    found: list[Recorded] = []
    problems: list[Problem] = []
    for path in workflows:
        try:
            found.append(recorded_file(path))
        except InvalidInputError as error:
            problems += error.problems
    if not workflows and not runs:
        what, remedy = "nothing to replay", "give WfFormat files, or --run with a run of this home"
        problems.append(Problem(where="WORKFLOW.json", value="", what=what, remedy=remedy))
    if problems:
        raise InvalidInputError(problems)
    return found + (_measured_runs(find_home(said_home), runs) if runs else [])


def _measured_runs(home: Path, runs: Sequence[str]) -> list[Recorded]:
    from dagster import DagsterInstance

    from cu_market.cli.outlines import read_outline
    from cu_market.sim.recorded import recorded_run

    found = []
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
