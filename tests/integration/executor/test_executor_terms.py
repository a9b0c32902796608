"""A real run on an auction's terms: what is paid, what is told, where data lies."""

from __future__ import annotations

from typing import Any

import pytest
from execution_record import Bench
from unhurried import UNHURRIED

from cu_market.domain.allocation import AllocationState

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # Dagster reads its config classes in a way that pydantic has deprecated.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]


@pytest.fixture(autouse=True)
def _on_this_machine(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--steps") != "local":
        pytest.skip("sellers of this machine alone")


WRITES = {"write": {"config": {"mib": 40}}}


def seller(price: float, location: str, **options: Any) -> dict[str, Any]:
    """A part of this machine, sold as if it stood somewhere."""
    tariff = {"name": "t", "core_usd_per_hour": price, "gb_usd_per_hour": 0}
    return {
        "kind": "local",
        "cores": 1,
        "memory": "1500MiB",
        "location": location,
        "tariffs": [tariff],
        **options,
    }


def config(**settings: Any) -> dict[str, Any]:
    providers = {
        "cheap": seller(0.5, "x", egress_usd_per_gb=90),
        "dear": seller(0.8, "y", egress_usd_per_gb=90),
    }
    base = {**UNHURRIED, "providers": providers}
    return {"market": {"settings": base | settings}}


def won(bench: Bench, run_id: str) -> dict[str, str]:
    rows = bench.allocations(run_id)
    return {row.step_key: row.provider for row in rows if row.state is AllocationState.SETTLED}


def notes(bench: Bench, run_id: str) -> str:
    with bench._ledger() as ledger:
        return "\n".join(n for a in ledger.auctions(run_id) for n in a.report["notes"])


def test_a_second_price_is_what_the_lease_costs(bench: Bench) -> None:
    priced = config(pricing="second-price")
    run_id = bench.run("growing_input", priced, ops=WRITES, file="input_jobs.py")
    assert won(bench, run_id) == {"write": "cheap", "read": "cheap"}
    rows = [r for r in bench.allocations(run_id) if r.state is AllocationState.SETTLED]
    for row in rows:
        assert abs(row.price_microusd_per_hour - 800_000) <= 5  # rounded down, shared by money
        seconds = row.duration_seconds
        assert seconds is not None
        assert row.cost_microusd == pytest.approx(800_000 * seconds / 3600, abs=2)
    assert "second price: cheap bid" in notes(bench, run_id)


def test_what_was_read_the_last_time_brings_the_writer_to_its_reader(bench: Bench) -> None:
    tags = {"cu/for.read": "provider=dear"}
    apart = bench.run("growing_input", config(), ops=WRITES, file="input_jobs.py", tags=tags)
    assert won(bench, apart) == {"write": "cheap", "read": "dear"}
    # The reader is bound to the other seller. Taking 40 MiB there would cost $3.77, as is known
    # now: the writer comes to it.
    together = bench.run("growing_input", config(), ops=WRITES, file="input_jobs.py", tags=tags)
    assert won(bench, together) == {"write": "dear", "read": "dear"}
