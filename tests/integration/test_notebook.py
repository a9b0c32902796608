"""The notebook runs from top to bottom over a ledger written through the public interface."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.auction import Auction
from cu_market.domain.bid import Bid, Rates
from cu_market.domain.profile import CUProfile
from cu_market.domain.request import StepIdentity
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GB
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.ledger.interface import Ledger
from cu_market.ledger.sql import open_ledger

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "first_runs.ipynb"
T0 = datetime(2026, 1, 1, tzinfo=UTC)
CAPACITY = ResourceVector(cpu_millis=2000, memory_bytes=8 * GB)
RATES = Rates(core_microusd_per_hour=48_000, gb_microusd_per_hour=6_500)


def write_run(ledger: Ledger, run_id: str, began: datetime, memory_bytes: int) -> None:
    price = RATES.price_microusd_per_hour(CAPACITY)
    profile = CUProfile(
        cu_id="local/standard",
        provider="local",
        location="here",
        capacity_id="local",
        cpu_millis=CAPACITY.cpu_millis,
        memory_bytes=CAPACITY.memory_bytes,
        price_microusd_per_hour=price,
    )
    bid = Bid(bid_id="b", profile=profile, price_microusd_per_hour=price, rates=RATES)
    size = ResourceVector(cpu_millis=1000, memory_bytes=memory_bytes)
    awards = [
        Allocation(
            run_id=run_id,
            step_key=step,
            attempt=1,
            state=AllocationState.AWARDED,
            auction_id=f"of-{run_id}",
            bid_id="b",
            provider="local",
            resource_id="local/standard",
            capacity_id="local",
            size=size,
            price_microusd_per_hour=RATES.price_microusd_per_hour(size),
            expected_ms=1000,
            awarded_at=began,
        )
        for step in ("load", "fit", "plot")
    ]
    report = {"bids": [bid.to_record()], "capacities": {"local": dict(CAPACITY.items())}}
    auction = Auction(
        auction_id=f"of-{run_id}",
        run_id=run_id,
        held_at=began,
        mode="market",
        place="launcher",
        report={**report, "steps": []},
    )
    ledger.record_auction(auction, awards)
    for number, award in enumerate(awards):
        started = began + timedelta(seconds=number)
        ended = started + timedelta(seconds=1)
        lease = ledger.lease(award, capacity=CAPACITY, expires_at=ended, now=started)
        assert isinstance(lease, Allocation)
        usage = Usage(
            run_id=run_id,
            step_key=award.step_key,
            attempt=1,
            identity=StepIdentity(node=award.step_key),
            provider="local",
            resource_id="local/standard",
            started_at=started,
            ended_at=ended,
            cpu_millis=1000,
            memory_bytes=memory_bytes,
            measurement=Measurement(wall_ms=1000, cpu_ms=500, peak_memory_bytes=GB // 4),
            ending=Ending.OK,
        )
        ledger.settle(lease.key, lease.fencing_token, ended_at=ended, usage=usage)


@pytest.mark.integration
@pytest.mark.timeout(1800)
def test_the_notebook_runs_over_a_ledger_and_draws_its_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with open_ledger(url) as ledger:
        for number, gigabytes in enumerate((4, 1, 1)):
            began = T0 + timedelta(minutes=number)
            write_run(ledger, f"run-{number}", began, gigabytes * GB)
    monkeypatch.setenv("CU_MARKET_LEDGER_URL", url)
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), (
        "strip outputs before committing"
    )

    nbclient.NotebookClient(
        notebook, timeout=600, startup_timeout=600, kernel_name="python3"
    ).execute(cwd=tmp_path)

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    printed = "".join(output.get("text", "") for output in outputs)
    assert "at most 1 of 2 cores were leased at once" in printed
    tables = [o["data"]["text/plain"] for o in outputs if "text/plain" in o.get("data", {})]
    # A second of 1 core and 4 GB is 74,000 / 3,600 -> 21 micro-dollars, with 1 GB 15: 45 of 63.
    assert any("0.714" in table for table in tables)
