"""The `cu-market` command, composed: each command is in the module of its subject.

Those modules are imported at every start: what is heavy they import when they run.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from cu_market.cli.ahead import ahead
from cu_market.cli.catalog import catalog_app
from cu_market.cli.checks.app import check
from cu_market.cli.demo import demo
from cu_market.cli.exits import exit_code_of, is_told
from cu_market.cli.explain import explain
from cu_market.cli.output import write_error
from cu_market.cli.pool import pool
from cu_market.cli.provider import provider_app
from cu_market.cli.pse.app import pse
from cu_market.cli.quote import quote
from cu_market.cli.rows import ledger
from cu_market.cli.simulate import simulate
from cu_market.cli.up import up
from cu_market.domain.problem import CUMarketError


class _ReportingGroup(TyperGroup):
    """Turns errors that a person can mend into lines on standard error and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (CUMarketError, KeyboardInterrupt, OSError, ModuleNotFoundError) as error:
            if not is_told(error):
                raise
            write_error(error)
            raise typer.Exit(int(exit_code_of(error))) from error


app = typer.Typer(
    name="cu-market",
    cls=_ReportingGroup,
    help="A market for compute inside Dagster: every step is forecast, auctioned, metered, billed.",
    epilog="Exit codes: 0 done, 1 failed, 2 bad input, 3 nothing found, 4 ledger unusable, 130 ^C.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for command in (demo, up, pool, explain, ledger, ahead, quote, simulate, check):
    app.command()(command)
app.add_typer(catalog_app)
app.add_typer(provider_app, name="provider", no_args_is_help=True)
app.add_typer(pse, name="pse")


def main() -> None:
    """Runs the command line; see docs/cli.md."""
    app()
