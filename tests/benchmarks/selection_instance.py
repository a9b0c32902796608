"""Selection instances out of real workflow executions and real price lists, seeded.

Steps: workflows are drawn until there are enough tasks, each with a time scale, a size scale, an
arrival and a home; tasks start at their earliest. Bids: rows of price lists with drawn prices,
start-up times and quantities; some spot, some elastic. Egress and expected interruption losses are
surcharges of a pair.
"""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cu_market.dnm import Surcharge
from cu_market.domain.bid import Bid, Rates
from cu_market.domain.profile import CUProfile
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GB, GIB, MIB, MICROUSD

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LOCATIONS = ("home-0", "home-1", "home-2", "home-3", "home-4")
CATALOGS = ("aws-us-east-1", "do", "ibm", "lambda", "nebius", "runpod", "vast")
EGRESS_USD_PER_GB = 0.09
EGRESS_SECONDS_PER_GB = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A selection's whole input.

    Attributes:
        requests, bids, capacities: as the planner takes them.
        input_bytes: bytes that each request reads from its home.
        homes: location of each request's data.
    """

    requests: tuple[ResourceRequest, ...]
    bids: tuple[Bid, ...]
    capacities: Mapping[str, ResourceVector]
    input_bytes: Mapping[str, int]
    homes: Mapping[str, str]

    def __call__(self, request: ResourceRequest, bid: Bid) -> Surcharge:
        """Returns egress where the bid is elsewhere, and the expected loss by interruption.

        An interrupted attempt loses half of its run on average:
        hazard x hours x money / 2, capped at the whole.
        """
        moved = self.input_bytes[request.request_id]
        if bid.profile.location == self.homes[request.request_id]:
            moved = 0
        transfer_ms = moved * EGRESS_SECONDS_PER_GB * 1000 // GB
        egress = moved * round(EGRESS_USD_PER_GB * MICROUSD) // GB
        takes_ms = bid.profile.startup_ms + bid.duration_of(request) + transfer_ms
        hours = takes_ms / 3_600_000
        hazard = bid.profile.interruption_millis_per_hour / 1000
        money = bid.price_for(request.needs) * hours
        lost = round(min(1.0, hazard * hours / 2) * money)
        return Surcharge(microusd=egress, loss_microusd=lost, extra_ms=transfer_ms)

    def table(
        self, requests: Sequence[ResourceRequest], bids: Sequence[Bid]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Returns what calling it for every pair would: the same operations in the same order."""
        home = np.array([self.homes[r.request_id] for r in requests])[:, None]
        place = np.array([b.profile.location for b in bids])[None, :]
        read = np.array([self.input_bytes[r.request_id] for r in requests])[:, None]
        moved = np.where(home == place, 0, read)
        transfer_ms = moved * EGRESS_SECONDS_PER_GB * 1000 // GB
        egress = moved * round(EGRESS_USD_PER_GB * MICROUSD) // GB
        duration = np.array([r.duration_ms for r in requests])[:, None]
        speed = np.array([b.performance_millis for b in bids])[None, :]
        startup = np.array([b.profile.startup_ms for b in bids])[None, :]
        hours = (startup - (-duration * 1000 // speed) + transfer_ms) / 3_600_000
        hazard = np.array([b.profile.interruption_millis_per_hour for b in bids]) / 1000
        price = np.empty((len(requests), len(bids)))
        for k, bid in enumerate(bids):
            price[:, k] = (
                bid.price_microusd_per_hour
                if bid.rates is None
                else [bid.price_for(request.needs) for request in requests]
            )
        lost = np.rint(np.minimum(1.0, hazard * hours / 2) * (price * hours)).astype(np.int64)
        return egress, lost, transfer_ms


def generate(data: Path, *, steps: int, bids: int, contention: float, seed: int) -> Instance:
    """Returns an instance; equal arguments give equal instances.

    Args:
        data: folder with workflows/ and catalogs/.
        steps: number of requests.
        bids: number of bids.
        contention: factor on every quantity; below 1 is scarcer.
        seed: of everything drawn.
    """
    rng = random.Random(seed)
    requests, sizes, homes = _draw_requests(data, steps, rng)
    offered, capacities = _draw_bids(data, bids, contention, rng)
    return Instance(
        requests=tuple(requests),
        bids=tuple(offered),
        capacities=capacities,
        input_bytes=sizes,
        homes=homes,
    )


def _draw_requests(
    data: Path, steps: int, rng: random.Random
) -> tuple[list[ResourceRequest], dict[str, int], dict[str, str]]:
    files = sorted((data / "workflows").glob("*.json"))
    workflows = [json.loads(path.read_text()) for path in files]
    requests: list[ResourceRequest] = []
    sizes: dict[str, int] = {}
    homes: dict[str, str] = {}
    number = 0
    while len(requests) < steps:
        workflow = rng.choice(workflows)
        scale = rng.choice((1, 5, 20, 60))
        size_scale = rng.choice((1, 1, 2, 4, 8))
        arrival_ms = rng.randrange(3600) * 1000
        home = rng.choice(LOCATIONS)
        value = rng.choice((0.0, 0.0, 0.02, 0.1))
        for request, read in _tasks(workflow, number, scale, size_scale, arrival_ms, value, rng):
            if len(requests) == steps:
                break
            requests.append(request)
            sizes[request.request_id] = read
            homes[request.request_id] = home
        number += 1
    kept = {request.request_id for request in requests}
    return [_without_unknown(request, kept) for request in requests], sizes, homes


def _without_unknown(request: ResourceRequest, kept: set[str]) -> ResourceRequest:
    from dataclasses import replace

    return replace(request, depends_on=tuple(n for n in request.depends_on if n in kept))


def _tasks(
    workflow: Mapping[str, Any],
    number: int,
    scale: int,
    size_scale: int,
    arrival_ms: int,
    value_usd_per_hour: float,
    rng: random.Random,
) -> list[tuple[ResourceRequest, int]]:
    """Returns (request, input bytes) of a workflow's tasks, parents first."""
    specification = workflow["workflow"]["specification"]
    executed = {task["id"]: task for task in workflow["workflow"]["execution"]["tasks"]}
    file_bytes = {item["id"]: item["sizeInBytes"] for item in specification.get("files", [])}
    tasks = {task["id"]: task for task in specification["tasks"]}
    start: dict[str, int] = {}
    found: list[tuple[ResourceRequest, int]] = []
    for name in _parents_first(tasks):
        task, run = tasks[name], executed[name]
        duration_ms = max(1, round(run["runtimeInSeconds"] * scale * 1000))
        begin = max([arrival_ms, *(start[p] for p in task["parents"])])
        start[name] = begin + duration_ms
        peak = run.get("memoryInBytes", 0) * size_scale
        memory = -(-int(1.25 * peak) // (128 * MIB)) * 128 * MIB if peak else 1536 * MIB
        cores = run.get("coreCount") or math.ceil(run.get("avgCPU", 100) / 100 - 0.1)
        has_gpu = duration_ms > 60_000 and rng.random() < 0.1
        read = sum(file_bytes.get(item, 0) for item in task.get("inputFiles", ())) * size_scale
        request = ResourceRequest(
            request_id=f"{number:03d}/{name}",
            timestamp=NOW,
            duration_ms=duration_ms,
            needs=ResourceVector(
                cpu_millis=max(1, int(cores)) * 1000, memory_bytes=memory, gpu_count=int(has_gpu)
            ),
            depends_on=tuple(f"{number:03d}/{parent}" for parent in task["parents"]),
            earliest_start_ms=begin,
            value_of_time_microusd_per_hour=round(value_usd_per_hour * MICROUSD),
        )
        found.append((request, read))
    return found


def _parents_first(tasks: Mapping[str, Any]) -> list[str]:
    done: dict[str, None] = {}
    waiting = sorted(tasks)
    while waiting:
        ready = [name for name in waiting if all(p in done for p in tasks[name]["parents"])]
        done.update(dict.fromkeys(ready))
        waiting = [name for name in waiting if name not in done]
    return list(done)


def _draw_bids(
    data: Path, count: int, contention: float, rng: random.Random
) -> tuple[list[Bid], dict[str, ResourceVector]]:
    catalogs = {name: _rows(data / "catalogs" / f"{name}.csv") for name in CATALOGS}
    bids: list[Bid] = []
    capacities: dict[str, ResourceVector] = {}
    for number in range(count):
        provider = rng.choices(CATALOGS, weights=(0.4, *(0.1,) * 6))[0]
        row = rng.choice(catalogs[provider])
        bids.append(_bid(number, provider, row, contention, capacities, rng))
    return bids, capacities


def _rows(path: Path) -> list[dict[str, str]]:
    """Usable types: priced, amd64, not burstable, at most 96 vCPUs."""
    with path.open(newline="") as file:
        return [
            row
            for row in csv.DictReader(file)
            if row["Price"]
            and row["vCPUs"]
            and row["MemoryGiB"]
            and float(row["Price"]) > 0
            and 1 <= float(row["vCPUs"]) <= 96
            and row.get("Arch", "amd64") == "amd64"
            and not (path.stem.startswith("aws") and row["InstanceType"].startswith("t"))
        ]


def _bid(
    number: int,
    provider: str,
    row: Mapping[str, str],
    contention: float,
    capacities: dict[str, ResourceVector],
    rng: random.Random,
) -> Bid:
    name, cores = f"bid-{number:04d}", int(float(row["vCPUs"]))
    memory = int(float(row["MemoryGiB"]) * GIB * 93 // 100)
    usd = float(row["Price"]) * rng.uniform(0.85, 1.15)
    startup_s = rng.choice((15, 45, 90, 180))
    quantity = 2 ** rng.randrange(6)
    hazard = 0.0
    kind = rng.random()
    rates = None
    if kind < 0.3:
        usd *= rng.uniform(0.3, 0.6)
        hazard = rng.uniform(0.02, 0.5)
    elif kind < 0.4:
        core_usd = usd / cores * rng.uniform(1.5, 3)
        rates = Rates(core_microusd_per_hour=round(core_usd * MICROUSD), gb_microusd_per_hour=0)
        vcpus = max(1, round(rng.choice((16, 64, 256)) * contention))
        capacities[name] = ResourceVector(
            cpu_millis=vcpus * 1000, memory_bytes=2**50, gpu_count=2**20
        )
        startup_s = 5
    clock_mhz = float(row.get("ClockMHz") or 0) or rng.uniform(1800, 4500)
    speed = min(1.5, max(0.6, clock_mhz / 3000))
    price = round(usd * MICROUSD)
    profile = CUProfile(
        cu_id=f"{provider}/{name}",
        provider=provider,
        location=LOCATIONS[CATALOGS.index(provider) % len(LOCATIONS)],
        capacity_id=name,
        cpu_millis=cores * 1000,
        memory_bytes=memory,
        gpu_type=row["AcceleratorName"] or None,
        gpu_count=int(float(row["AcceleratorCount"] or 0)),
        price_microusd_per_hour=price,
        performance_millis=round(1000 * speed),
        startup_ms=startup_s * 1000,
        interruption_millis_per_hour=round(1000 * hazard),
    )
    return Bid(
        bid_id=name,
        profile=profile,
        price_microusd_per_hour=price,
        performance_millis=round(1000 * speed),
        rates=rates,
        quantity=max(1, round(quantity * contention)),
    )
