"""Two locations, and steps that hand a file to each other: kept in one, retries too."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from execution_record import Bench
from unhurried import UNHURRIED

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),
    # Dagster reads its config classes in a way that pydantic has deprecated.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]


def sells(location: str, memory: str, price: float) -> dict[str, object]:
    tariff = {"name": "only", "core_usd_per_hour": price, "gb_usd_per_hour": price}
    return {
        "kind": "local",
        "location": location,
        "cores": 1,
        "memory": memory,
        "tariffs": [tariff],
    }


SETTINGS = {
    **UNHURRIED,
    "renegotiate_seconds": 0,
    "providers": {"near": sells("attic", "1GiB", 1), "far": sells("cellar", "2GiB", 10)},
}
EXECUTION = {"market": {"settings": SETTINGS}}


def run(bench: Bench, folder: Path, *, mib: int = 0, **tags: str) -> str:
    ops = {"write": {"config": {"folder": str(folder)}}, "read": {"config": {"mib": mib}}}
    said = {f"cu/{name}": value for name, value in tags.items()}
    run_id = bench.run("scratch", EXECUTION, ops=ops, file="kept_jobs.py", tags=said)
    assert bench.record(run_id).status == "SUCCESS"
    return run_id


def leased(bench: Bench, run_id: str) -> dict[str, list[str]]:
    """Returns the providers of each step's attempts, in their order."""
    found: dict[str, list[str]] = defaultdict(list)
    for row in bench.allocations(run_id):
        if row.leased_at is not None:
            found[row.step_key].append(row.provider)
    return found


def test_steps_that_say_one_name_run_in_one_location(bench: Bench, tmp_path: Path) -> None:
    assert leased(bench, run(bench, tmp_path)) == {"write": ["far"], "read": ["near"]}
    kept = leased(bench, run(bench, tmp_path, together="scratch"))
    assert kept == {"write": ["far"], "read": ["far"]}


def test_a_retry_stays_where_the_others_are_although_the_other_place_is_cheaper(
    bench: Bench, tmp_path: Path
) -> None:
    run_id = run(bench, tmp_path, mib=150, together="scratch")
    kept = leased(bench, run_id)
    assert kept["write"] == ["far"]
    assert len(kept["read"]) > 1
    assert set(kept["read"]) == {"far"}
    newest = bench.reports(run_id)[0]["steps"]
    assert [step["step"] for step in newest] == ["read"]
    (loss,) = (each for each in newest[0]["losses"] if each["provider"] == "near")
    assert loss["reason"] == "kept together elsewhere"
    assert loss["detail"] == "stays with write in cellar; this is attic"
