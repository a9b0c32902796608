"""Real runs on CUs that are rented whole: shared, opened when due, closed and billed, whatever
happens to the run worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterEventType
from execution_record import Bench
from renting_jobs import MANY
from running import Running, wait_until
from unhurried import UNHURRIED

from cu_market.deo.launcher.reaper import reap_run
from cu_market.deo.settings import instance_settings
from cu_market.domain.allocation import AllocationState
from cu_market.domain.rental import RentalState
from cu_market.market.opening import close_market, open_market

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),
    # Dagster reads its config classes in a way that pydantic has deprecated.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]

PRICES = """InstanceType,vCPUs,MemoryGiB,Region,Price
c.large,2,4,here,0.10
c.xlarge,4,8,here,0.20
m.large,2,8,here,0.12
"""


def selling(home: Path, **options: Any) -> dict[str, Any]:
    """Returns a market whose only provider starts processes here at a catalogue's prices."""
    prices = home / "prices.csv"
    prices.write_text(PRICES)
    cloud = {"kind": "catalog", "file": str(prices), "startup_seconds": 2}
    settings = {"providers": {"cloud": {**cloud, "start": {"kind": "local"}, **options}}}
    return {"market": {"settings": {**UNHURRIED, "solve_seconds": 10.0, **settings}}}


def test_steps_share_cus_and_the_run_pays_for_these(bench: Bench) -> None:
    run_id = bench.run("fanned", selling(bench.home), file="renting_jobs.py")
    record = bench.record(run_id)
    assert record.status == "SUCCESS"
    assert record.values["run/end/result"] == 8
    leased = [row for row in bench.allocations(run_id) if row.leased_at is not None]
    assert {row.state for row in leased} == {AllocationState.SETTLED}
    assert len(leased) == 6
    assert all("#" in row.resource_id for row in leased)
    had = [each for each in bench.rentals(run_id) if each.opened_at is not None]
    assert {each.state for each in had} == {RentalState.CLOSED}
    assert len(had) < len(leased)
    for each in had:
        own = [row for row in leased if row.capacity_id == each.rental_id]
        ends = [row.ended_at for row in own if row.ended_at is not None]
        if own:
            assert each.closed_at == max(ends)
        assert each.rest_microusd == max(
            0, (each.cost_microusd or 0) - sum(row.cost_microusd or 0 for row in own)
        )
    bill = bench.bill(run_id)
    shares = sum(row.cost_microusd or 0 for row in leased)
    assert bill.cost_microusd == shares + sum(each.rest_microusd or 0 for each in had)
    assert bill.open_leases == 0
    told = [said for said in bench.engine_messages(run_id) if "rented whole and shared" in said]
    assert len(told) == len(had)
    starts = bench.entries(run_id, DagsterEventType.STEP_START)
    assert len(starts) == 6


def test_mapped_steps_share_once_it_is_known_how_many_there_are(bench: Bench) -> None:
    run_id = bench.run("mapped", selling(bench.home, startup_seconds=60), file="renting_jobs.py")
    record = bench.record(run_id)
    assert record.status == "SUCCESS"
    assert record.values["run/end/result"] == 21
    leased = [row for row in bench.allocations(run_id) if row.leased_at is not None]
    mapped = [row for row in leased if row.step_key.startswith("work[")]
    assert len(mapped) == 6
    assert all("#" in row.resource_id for row in mapped)
    assert len({row.resource_id for row in mapped}) < 6
    (told,) = [said for said in bench.engine_messages(run_id) if "auctioned together" in said]
    assert told.startswith("6 steps of work[?] are known now")
    had = bench.rentals(run_id)
    assert {each.state for each in had} <= {RentalState.CLOSED, RentalState.DROPPED}


def test_on_rented_cus_as_many_run_at_once_as_there_is_room_for(
    bench: Bench, tmp_path: Path
) -> None:
    folder = tmp_path / "met"
    folder.mkdir()
    said = {"config": {"folder": str(folder)}}
    run_id = bench.run(
        "meeting",
        selling(bench.home, startup_seconds=60),
        ops={f"meet_{n}": said for n in range(MANY)},
        file="renting_jobs.py",
    )
    assert bench.record(run_id).status == "SUCCESS"
    leased = [row for row in bench.allocations(run_id) if row.leased_at is not None]
    assert len(leased) == MANY
    assert all("#" in row.resource_id for row in leased)


def test_each_step_has_a_cu_to_itself_where_the_market_says_so(bench: Bench) -> None:
    market = selling(bench.home)
    market["market"]["settings"]["share_cus"] = False
    run_id = bench.run("fanned", market, file="renting_jobs.py")
    assert bench.record(run_id).status == "SUCCESS"
    assert list(bench.rentals(run_id)) == []
    names = {row.resource_id for row in bench.allocations(run_id)}
    assert names == {"cloud/here/c.large"}


def test_what_a_killed_run_worker_had_rented_is_closed_and_billed_once(
    bench: Bench, tmp_path: Path
) -> None:
    folder = tmp_path / "marks"
    folder.mkdir()
    said = selling(bench.home, startup_seconds=300)["market"]["settings"]
    running = Running("patient", folder, said)
    wait_until(lambda: (folder / "begun").exists())
    (run,) = bench.live_runs()
    (opened,) = bench.rentals(run.run_id)
    assert opened.state is RentalState.OPEN
    running.kill()
    own = instance_settings(bench.instance)
    market = open_market(own.model_copy(update={"providers": said["providers"]}), str(bench.home))
    try:
        reap_run(market, run)
        (closed,) = bench.rentals(run.run_id)
        reap_run(market, run)
    finally:
        close_market(market)
    assert (closed.rental_id, closed.state) == (opened.rental_id, RentalState.CLOSED)
    assert (closed.cost_microusd or 0) > 0
    assert bench.rentals(run.run_id) == [closed]
    (lease,) = [row for row in bench.allocations(run.run_id) if row.leased_at is not None]
    assert (lease.state, lease.ended_at) == (AllocationState.SETTLED, closed.closed_at)
