from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from cu_market.cli.simulate import simulate_documents
from cu_market.domain.problem import InvalidInputError


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    columns = "InstanceType,vCPUs,MemoryGiB,Price,SpotPrice,Region,Arch,ClockMHz"
    catalog = tmp_path / "prices.csv"
    catalog.write_text(
        f"{columns}\nc6a.large,2,4,0.36,,r,amd64,3600\nc6a.xlarge,4,8,0.72,,r,amd64,3600\n"
    )
    workflow = tmp_path / "flow.json"
    tasks = [{"id": f"t{k}", "parents": [] if k == 0 else ["t0"]} for k in range(4)]
    runs = [{"id": f"t{k}", "runtimeInSeconds": 100 + k, "coreCount": 1} for k in range(4)]
    document = {"workflow": {"specification": {"tasks": tasks}, "execution": {"tasks": runs}}}
    workflow.write_text(json.dumps(document))
    return workflow, catalog


def test_schedules_give_the_cost_again_and_pictures_are_drawn(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    workflow, catalog = files
    (document,) = simulate_documents(
        [workflow],
        [catalog],
        ["market", "greedy"],
        spot=None,
        schedule_out=tmp_path / "out",
        picture_out=tmp_path / "out",
        seconds=2.0,
        options={},
    )
    prices = {"c6a.large": 0.36, "c6a.xlarge": 0.72}
    for name, figures in document["policies"].items():
        with (tmp_path / "out" / "flow" / f"{name}.csv").open() as file:
            rows = list(csv.DictReader(file))
        spans: dict[str, list[float]] = {}
        kinds = {row["cu_id"]: row["instance_type"] for row in rows}
        for row in rows:
            spans.setdefault(row["cu_id"], []).extend(
                (float(row["start_seconds"]), float(row["end_seconds"]))
            )
        cost = sum(
            prices[kinds[cu]] * max(60, 45 + max(times) - min(times)) / 3600
            for cu, times in spans.items()
        )
        assert figures["cost_usd"] == pytest.approx(cost, abs=1e-5)
    for picture in ("market.png", "greedy.png", "cost-finish.png"):
        assert (tmp_path / "out" / "flow" / picture).read_bytes().startswith(b"\x89PNG")


def test_a_policy_that_nobody_knows_is_refused_with_those_that_there_are(
    files: tuple[Path, Path],
) -> None:
    workflow, catalog = files
    with pytest.raises(InvalidInputError, match="clairvoyant"):
        simulate_documents(
            [workflow],
            [catalog],
            ["oracle"],
            spot=None,
            schedule_out=None,
            picture_out=None,
            seconds=1.0,
            options={},
        )
