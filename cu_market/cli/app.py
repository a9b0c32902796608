"""The `cu-market` command: each command's work is in a module of its own, imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cu_market.cli.catalog import catalog_app
from cu_market.cli.exits import exit_code_of
from cu_market.cli.output import make_console, write_error, write_json
from cu_market.cli.pse.app import pse
from cu_market.domain.problem import CUMarketError


class _ReportingGroup(TyperGroup):
    """Turns our own errors into lines on standard error and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (CUMarketError, KeyboardInterrupt) as error:
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

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Home = Annotated[
    str | None,
    typer.Option(
        "--home",
        help="Dagster home. Left out: $DAGSTER_HOME, else the demo's home, else ./dagster_home.",
    ),
]


@app.command()
def demo(
    home: Annotated[
        str | None,
        typer.Option(
            "--home",
            help="Directory with the dagster.yaml to use; the demo works in its subdirectory "
            "'demo'. Left out: $DAGSTER_HOME, else ./dagster_home.",
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option(
            help="Delete what earlier demos left there, so that the first run knows nothing."
        ),
    ] = True,
    runs: Annotated[int, typer.Option(min=1, max=20, help="How many runs.")] = 3,
    timeout: Annotated[int, typer.Option(min=10, help="Seconds until it gives up.")] = 240,
    pictures: Annotated[
        Path | None, typer.Option(help="Also write what is printed as SVG files into here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a real pipeline three times through Dagster's daemon, and print the bills.

    The first run is sized by what its code declares, the later ones by what the first was measured
    to need. Everything stays on this machine.
    """
    from cu_market.cli.demo import run_demo
    from cu_market.cli.homes import base_home, prepare_demo_home
    from cu_market.cli.summary import print_summary

    base = Path(home).absolute() if home else base_home()
    demo_home = prepare_demo_home(base, is_fresh=fresh)
    document = run_demo(demo_home, count=runs, timeout_seconds=timeout)
    if as_json:
        write_json(document)
    else:
        print_summary(document, pictures)


@app.command()
def up(
    home: Home = None,
    workspace: Annotated[
        str | None,
        typer.Option(
            "--workspace", "-w", help="Left out: ./workspace.yaml, else the one in the home."
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", "-p", min=1, max=65535)] = 3000,
    as_json: Json = False,
) -> None:
    """Open Dagster's UI and daemon on 127.0.0.1, in the home where the demo ran.

    Runs until ^C. With --json it prints the address and the home first.
    """
    from cu_market.cli.homes import find_home, find_workspace
    from cu_market.cli.up import bring_up

    found = find_home(home)
    bring_up(found, find_workspace(workspace, found), port, as_json=as_json)


@app.command()
def pool(home: Home = None, as_json: Json = False) -> None:
    """Show every provider, its state, its CUs: price, room in all, free room, measured speed."""
    from cu_market.cli.deployment import open_deployment
    from cu_market.cli.homes import find_home
    from cu_market.cli.pool import pool_document, pool_notices, pool_table

    with open_deployment(find_home(home)) as deployment:
        document = pool_document(deployment)
    if as_json:
        write_json(document)
    else:
        console = make_console()
        console.print(pool_table(document))
        for line in pool_notices(document):
            console.print(line, markup=False)


@app.command()
def explain(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's id, its beginning, or 'last'.")
    ],
    step: Annotated[str | None, typer.Argument(metavar="STEP", help="One step in detail.")] = None,
    wait: Annotated[
        float | None,
        typer.Option(
            "--wait", min=0, help="First wait for the run's end, at most so many seconds."
        ),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Tell why each step of a run got the CU it got: asked, bids, winner, losers and why."""
    from cu_market.cli.deployment import find_run, open_deployment
    from cu_market.cli.explain import explain_document, explain_tables
    from cu_market.cli.homes import find_home

    where = find_home(home)
    if wait is not None:
        from cu_market.cli.awaiting import await_run

        await_run(where, run, wait)
    with open_deployment(where) as deployment:
        run_id = find_run(deployment.ledger, run)
        document = explain_document(deployment.ledger, run_id, step)
    if as_json:
        write_json(document)
        return
    console = make_console()
    for shown in explain_tables(document):
        console.print(shown, markup=False)


@app.command()
def ledger(
    run: Annotated[
        str | None, typer.Option("--run", help="Only this run: id, its beginning, or 'last'.")
    ] = None,
    state: Annotated[
        list[str] | None, typer.Option("--state", help="Only rows in this state; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many rows.")] = 50,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List the ledger's allocations: who holds or held what, its state, its cost."""
    from cu_market.cli.deployment import find_run, open_deployment
    from cu_market.cli.exits import NothingFoundError
    from cu_market.cli.homes import find_home
    from cu_market.cli.rows import ledger_document, ledger_table, parse_states

    parse_states(state or ())
    with open_deployment(find_home(home)) as deployment:
        run_id = find_run(deployment.ledger, run) if run else None
        document = ledger_document(
            deployment.ledger, run_id=run_id, states=state or (), limit=limit
        )
    if not document["allocations"]:
        remedy = "leave out --state" if state else "run something: cu-market demo, or a job"
        raise NothingFoundError(f"the ledger has no such rows: {remedy}")
    if as_json:
        write_json(document)
    else:
        make_console().print(ledger_table(document))


@app.command()
def ahead(
    job: Annotated[str | None, typer.Option("--job", help="Only for this job.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List CUs that were started ahead of need: for which launch, why, and whether it used them."""
    from cu_market.cli.ahead import ahead_document, ahead_tables
    from cu_market.cli.deployment import open_deployment
    from cu_market.cli.exits import NothingFoundError
    from cu_market.cli.homes import find_home

    with open_deployment(find_home(home)) as deployment:
        document = ahead_document(deployment, job=job, limit=limit)
    if not document["purchases"]:
        remedy = "it buys once a job has been launched by its schedule and measured"
        if not document["enabled"]:
            remedy = "set ahead: {enabled: true} among the market's settings in dagster.yaml"
        raise NothingFoundError(f"nothing was bought ahead: {remedy}")
    if as_json:
        write_json(document)
        return
    console = make_console()
    for shown in ahead_tables(document):
        console.print(shown, markup=False)


app.add_typer(catalog_app)


@app.command()
def quote(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's id, its beginning, or 'last'.")
    ],
    points: Annotated[int, typer.Option(min=5, max=50, help="Of the curve.")] = 7,
    picture: Annotated[
        Path | None, typer.Option(help="Also draw the curve: FILE.svg or FILE.png.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Tell what a run would cost now and when it would end, and cost against deadline.

    Nothing is bought. CUs that are only quoted (price catalogues) count, too.
    """
    from cu_market.cli.homes import find_home
    from cu_market.cli.quote import draw_quote, quote_document, quote_table

    document = quote_document(find_home(home), run, points=points)
    if picture is not None:
        draw_quote(document, picture)
    if as_json:
        write_json(document)
        return
    console = make_console()
    console.print(quote_table(document))
    for name, notice in document["notices"].items():
        console.print(f"{name}: {notice}", markup=False)


@app.command()
def simulate(
    workflows: Annotated[
        list[Path], typer.Argument(metavar="WORKFLOW.json...", help="WfFormat 1.5 files.")
    ],
    catalog: Annotated[list[Path], typer.Option("--catalog", help="Price catalogue; repeatable.")],
    policy: Annotated[
        list[str] | None, typer.Option("--policy", help="Only these; repeatable.")
    ] = None,
    deadline_factor: Annotated[
        float, typer.Option(min=0.1, help="Deadline, times the static machine's finish.")
    ] = 1.0,
    spot: Annotated[Path | None, typer.Option(help="Spot trace.")] = None,
    spot_price_ratio: Annotated[
        float, typer.Option(min=0, max=1, help="Spot price, where the catalogue has none.")
    ] = 0.35,
    runtime_error: Annotated[float, typer.Option(min=0, help="Sigma of the forecast.")] = 0.0,
    replays: Annotated[int, typer.Option(min=1, help="Of each policy.")] = 100,
    seconds: Annotated[float, typer.Option(min=0.1, help="Limit of each plan.")] = 5.0,
    seed: Annotated[int, typer.Option(help="Of errors and trace offsets.")] = 0,
    schedule_out: Annotated[
        Path | None, typer.Option(help="Folder for schedules: DIR/workflow/policy.csv.")
    ] = None,
    picture_out: Annotated[
        Path | None,
        typer.Option(help="Folder for pictures: DIR/workflow/policy.png and cost-finish.png."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Replay recorded workflows on virtual time through the planner, policy beside policy."""
    from cu_market.cli.simulate import simulate_documents, simulate_table

    documents = simulate_documents(
        workflows,
        catalog,
        policy or (),
        spot=spot,
        schedule_out=schedule_out,
        picture_out=picture_out,
        seconds=seconds,
        options={
            "deadline_factor": deadline_factor,
            "runtime_error": runtime_error,
            "replays": replays,
            "seed": seed,
            "spot_permille": round(1000 * spot_price_ratio),
        },
    )
    if as_json:
        write_json(documents[0] if len(documents) == 1 else documents)
        return
    console = make_console()
    for document in documents:
        console.print(simulate_table(document))


@app.command()
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
    from cu_market.cli.exits import ExitCode
    from cu_market.cli.homes import find_home, find_workspace_or_none

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


provider_app = typer.Typer(help="Kinds of providers, and the suite that each must pass.")
app.add_typer(provider_app, name="provider", no_args_is_help=True)


@provider_app.command("list")
def provider_list(as_json: Json = False) -> None:
    """List the kinds of providers that are installed."""
    from cu_market.cli.provider import kinds_document, kinds_table

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
    from cu_market.cli.exits import ExitCode
    from cu_market.cli.homes import find_home_or_none
    from cu_market.cli.provider import find_tested, run_suite, suite_table, suite_verdict

    document = run_suite(find_tested(find_home_or_none(home), name), only)
    if as_json:
        write_json(document)
    else:
        console = make_console()
        console.print(suite_verdict(document), markup=False)
        if document["passed"] < len(document["tests"]):
            console.print(suite_table(document))
    if document["failed"]:
        raise typer.Exit(int(ExitCode.FAILED))


app.add_typer(pse, name="pse")


def main() -> None:
    """Runs the command line; see docs/cli.md."""
    app()
