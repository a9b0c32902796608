"""`cu-market quote` in a home in which a run has really ended: what it prints, what it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import Result
from dagster import DagsterInstance
from execution_record import MARKET, Bench
from ledger_rows import an_award
from typer.testing import CliRunner
from unhurried import UNHURRIED

from cu_market.cli.app import app
from cu_market.deo.settings import instance_settings
from cu_market.domain.allocation import Allocation
from cu_market.market.opening import close_market, open_market

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(600),
    # Dagster reads its config classes in a way that pydantic has deprecated.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]

GREETING = {"greet": {"config": {"name": "you"}}}


# Ten dollars a second: steps of some milliseconds cost more than nothing.
TARIFFS = [{"name": "t", "core_usd_per_hour": 36_000, "gb_usd_per_hour": 0}]


@pytest.fixture(scope="module")
def priced(
    tmp_path_factory: pytest.TempPathFactory, new_storage: Callable[[], str]
) -> Iterator[Bench]:
    """A home whose market sells this machine dearly."""
    home = tmp_path_factory.mktemp("home")
    market = {**UNHURRIED, "providers": {"local": {"tariffs": TARIFFS}}}
    launcher = {"module": "cu_market", "class": "MarketRunLauncher", "config": {"market": market}}
    (home / "dagster.yaml").write_text(
        f"telemetry: {{enabled: false}}\n{new_storage()}run_launcher: {json.dumps(launcher)}\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        with DagsterInstance.get() as instance:
            yield Bench(instance, home)


@pytest.fixture(scope="module")
def run_id(priced: Bench) -> str:
    """A run of two steps, one after the other, that the market has run."""
    run_id = priced.run("plain", MARKET, ops=GREETING)
    run = priced.instance.get_run_by_id(run_id)
    assert run is not None
    assert run.status.value == "SUCCESS"
    return run_id


def quote(bench: Bench, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["quote", *arguments, "--home", str(bench.home)])


def kept(bench: Bench) -> list[Any]:
    """Returns all that the ledger knows of runs, and how much Dagster has stored of them."""
    with bench._ledger() as ledger:
        found: list[Any] = [
            ledger.auctions(),
            ledger.allocations(),
            ledger.usages(),
            ledger.standing(),
            ledger.live_runs(),
        ]
    runs = bench.instance.get_runs()
    return [*found, [(run.run_id, run.tags, len(bench.entries(run.run_id))) for run in runs]]


def test_the_document_has_the_runs_figures_and_nothing_is_written(
    priced: Bench, run_id: str
) -> None:
    before = kept(priced)
    done = quote(priced, run_id[:8], "--json")
    assert done.exit_code == 0, done.output
    assert kept(priced) == before
    document = json.loads(done.stdout)
    assert document.keys() == {
        "run_id",
        "job",
        "asked",
        "curve",
        "is_late",
        "deadline",
        "beside",
        "steps",
        "notices",
    }
    assert (document["run_id"], document["job"]) == (run_id, "plain")
    assert [step["step"] for step in document["steps"]] == ["greet", "shout"]
    assert (document["is_late"], document["deadline"], document["notices"]) == (False, None, {})
    assert set(document["beside"].values()) == {0}  # the run has given everything back
    asked, curve = document["asked"], document["curve"]
    assert len(curve) == 7
    deadlines = [point["deadline_seconds"] for point in curve]
    assert deadlines == sorted(deadlines)
    assert deadlines[0] < deadlines[-1]
    for point in (asked, *curve):
        assert point["is_feasible"]
        assert 0 < point["cost_usd_p50"] <= point["cost_usd_p95"]
        assert 0 < point["finish_seconds_p50"] <= point["finish_seconds_p95"]
    # One step waits for the other, so the run takes what both do.
    won = [step["winner"] for step in document["steps"]]
    seconds = sum(winner["expected_seconds"] for winner in won)
    assert asked["deadline_seconds"] == pytest.approx(seconds, abs=0.002)
    assert asked["finish_seconds_p50"] > 0.9 * seconds
    paid = sum(winner["price_per_hour"] * winner["expected_seconds"] / 3600 for winner in won)
    assert asked["cost_usd_p50"] > 0.9 * paid > 0


def test_the_table_has_a_row_a_point_and_says_beside_whom(priced: Bench, run_id: str) -> None:
    done = quote(priced, "last", "--points", "5")
    assert done.exit_code == 0, done.output
    assert "plain, 2 steps: cost against deadline, nothing bought" in done.stdout
    assert "as asked" in done.stdout
    assert sum(line.count("$") == 2 for line in done.stdout.splitlines()) == 1 + 5
    assert "Nobody else uses the pools now." in done.stdout


def test_who_has_the_whole_machine_is_waited_for(priced: Bench, run_id: str) -> None:
    settings, now = instance_settings(priced.instance), datetime.now(UTC)
    market = open_market(settings, str(priced.home))
    try:
        whole = market.capacity("local", "local")
        award = an_award("other", "s", size=whole, expected_ms=100_000, awarded_at=now)
        until = now + timedelta(hours=1)
        lease = market.ledger.lease(award, capacity=whole, expires_at=until, now=now)
        assert isinstance(lease, Allocation)
        document = json.loads(quote(priced, run_id, "--json").stdout)
        assert document["beside"]["leases"] == 1
        assert document["asked"]["finish_seconds_p50"] > 90
        table = quote(priced, run_id).stdout
        assert "Planned beside 1 lease." in table
        market.ledger.revoke("other", now=now)
        assert "Nobody else uses the pools now." in quote(priced, run_id).stdout
    finally:
        close_market(market)


@pytest.mark.parametrize(("name", "magic"), [("q.png", b"\x89PNG"), ("q.svg", b"<?xml")])
def test_the_picture_is_a_file_beside_what_is_printed(
    priced: Bench, run_id: str, name: str, magic: bytes
) -> None:
    path = priced.home / name
    done = quote(priced, run_id, "--picture", str(path), "--points", "5", "--json")
    assert done.exit_code == 0, done.output
    assert path.read_bytes().startswith(magic)
    assert len(json.loads(done.stdout)["curve"]) == 5


def test_fewer_than_five_points_are_refused(priced: Bench, run_id: str) -> None:
    done = quote(priced, run_id, "--points", "4")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--points" in done.stderr


def test_a_run_that_nobody_knows_is_said_to_be_missing(priced: Bench, run_id: str) -> None:
    before = kept(priced)
    done = quote(priced, "nosuchrun", "--json")
    assert (done.exit_code, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line == "cu-market: run 'nosuchrun': Dagster has no run of it with a plan"
    assert kept(priced) == before
