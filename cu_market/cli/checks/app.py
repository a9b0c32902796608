"""`cu-market check`: its work is in the modules beside this one, imported when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from cu_market.cli.exits import ExitCode
from cu_market.cli.homes import find_home, find_workspace_or_none
from cu_market.cli.options import Home, Json
from cu_market.cli.output import make_console, write_json


def check(
    home: Home = None,
    workspace: Annotated[
        str | None,
        typer.Option(
            "--workspace",
            "-w",
            help="Whose code is looked for wherever steps may run. Left out: ./workspace.yaml, "
            "else the one in the home.",
        ),
    ] = None,
    provider: Annotated[
        list[str] | None, typer.Option("--provider", help="Only this one; repeatable.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds for a provider's worker to start and answer.")
    ] = 120.0,
    as_json: Json = False,
) -> None:
    """Try everything that a run will need, for real, and say what to do about what is not there.

    The deployment's settings, secrets, versions, storage, ledger and clocks; on each provider a
    worker that looks for the code, its version, the database, the results, and at its clock.
    """
    from cu_market.cli.checks.run import check_home, findings_document, findings_table

    found = find_home(home)
    findings = list(
        check_home(
            found,
            find_workspace_or_none(workspace, found),
            only=provider or (),
            timeout_seconds=timeout,
        )
    )
    document = findings_document(found, findings)
    if as_json:
        write_json(document)
    else:
        make_console().print(findings_table(findings))
    if document["failed"]:
        raise typer.Exit(int(ExitCode.FAILED))
