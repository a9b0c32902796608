"""Under the daemon, on CUs that are rented whole: a price rises, a provider goes; the run page says
where its steps went, and nothing is left open."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import running_daemon, serve_file, wait_for
from test_renegotiation import CONFIG, HERE, Changing, write_at_once

from cu_market.domain.allocation import AllocationState
from cu_market.domain.rental import RentalState

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

STEPS = ("held", "part_0", "part_1", "part_2")


def whole(file: Path, price: float) -> str:
    return json.dumps(
        {
            "kind": "changing_provider:WholeProvider",
            "file": str(file),
            "cores": 0.5,
            "memory": "256MiB",
            "tariffs": [{"name": "only", "core_usd_per_hour": price, "gb_usd_per_hour": 0}],
        }
    )


@pytest.fixture
def fanning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Changing, Path]]:
    """A run whose first step goes on until it is let go, and the file of its providers' factors.

    Three steps follow it at once, each on a CU of its own: two of them are rented later.
    """
    home, file = tmp_path / "home", tmp_path / "factors.json"
    home.mkdir()
    file.write_text(json.dumps({"alpha": 1, "beta": 1, "gamma": 1}))
    prices = {"alpha": 1, "beta": 1.5, "gamma": 9}
    providers = {name: whole(file, price) for name, price in prices.items()}
    (home / "dagster.yaml").write_text(CONFIG.format(**providers))
    serve_file(home, HERE / "changing_job.py")
    monkeypatch.setenv("CHANGING_FOLDER", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.syspath_prepend(str(HERE))
    with running_daemon(home) as (instance, workspace):
        run = Changing(instance, workspace, home, "fanning")
        placed = run.await_first_step()
        assert set(placed) == set(STEPS)
        assert {name.split("#")[0] for name in placed.values()} == {"alpha/only"}
        assert len(set(placed.values())) == 3
        yield run, file


def awarded(run: Changing) -> dict[str, str]:
    rows = run.ledger.allocations(run_id=run.run_id, states=[AllocationState.AWARDED])
    return {row.step_key: row.resource_id.split("#")[0] for row in rows}


def ends_well(run: Changing, folder: Path) -> dict[str, str]:
    (folder / "go").touch()
    ledger = run.ledger
    run_id = run.run_id
    wait_for(lambda: not ledger.rentals(run_id=run_id, states=[RentalState.OPEN]), "the closing")
    had = ledger.rentals(run_id=run_id)
    assert {each.state for each in had} <= {RentalState.CLOSED, RentalState.DROPPED}
    assert all(each.cost_microusd is not None for each in had if each.opened_at is not None)
    settled = run.await_success()
    assert set(settled) == set(STEPS)
    return settled


def test_what_is_to_be_rented_goes_where_it_is_cheaper_and_what_is_open_stays(
    fanning: tuple[Changing, Path], tmp_path: Path
) -> None:
    run, file = fanning
    write_at_once(file, {"alpha": 9, "beta": 1, "gamma": 1})
    wait_for(lambda: list(awarded(run).values()).count("beta/only") == 2, "the moves")
    (open_one,) = run.ledger.rentals(run_id=run.run_id, states=[RentalState.OPEN])
    assert open_one.resource_id == "alpha/only#1"
    assert open_one.price_microusd_per_hour == 500_000  # as it was opened
    settled = ends_well(run, tmp_path)
    assert settled["held"] == "alpha/only#1"
    told = "\n".join(m for m in run.told if m.startswith("Planned anew"))
    assert "moves from alpha/only#" in told
    assert "to beta/only#" in told


def test_what_can_be_rented_no_more_is_auctioned_again(
    fanning: tuple[Changing, Path], tmp_path: Path
) -> None:
    run, file = fanning
    write_at_once(file, {"alpha": None, "beta": 1, "gamma": 1})
    wait_for(lambda: list(awarded(run).values()).count("beta/only") >= 1, "the moves")
    settled = ends_well(run, tmp_path)
    assert settled["held"] == "alpha/only#1"  # what runs there goes on
    (told,) = (m for m in run.told if "can be rented no more" in m)
    assert told.startswith("Renegotiated, since alpha/only#")
    assert "beta/only" in told.partition(" to ")[2]
