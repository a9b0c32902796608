from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from dnm_records import HOUR, NOW, asks, offers

from cu_market.dnm.feasibility import losses
from cu_market.domain.bid import Bid
from cu_market.domain.plan import LossReason
from cu_market.domain.request import ResourceRequest

CASES: list[tuple[ResourceRequest, Bid, LossReason, str]] = [
    (asks("r", cores=8), offers("b", 1), LossReason.TOO_FEW_CORES, "asks 8 cores, has 4"),
    (asks("r", gib=8), offers("b", 1), LossReason.TOO_LITTLE_MEMORY, "asks 8.0 GiB, has 4.0 GiB"),
    (
        asks("r", gpu_type="A100"),
        offers("b", 1, gpu_type="T4", gpu_count=1),
        LossReason.NO_SUCH_GPU,
        "asks A100, has T4",
    ),
    (
        asks("r", gpus=2),
        offers("b", 1, gpu_type="T4", gpu_count=1),
        LossReason.NO_SUCH_GPU,
        "asks 2 GPUs, has 1",
    ),
    (
        asks("r", max_price_microusd_per_hour=500_000),
        offers("b", 500_001),
        LossReason.ABOVE_MAX_PRICE,
        "asks at most $0.500000/h, costs $0.500001/h",
    ),
    (
        asks("r", providers=("q", "o")),
        offers("b", 1),
        LossReason.PROVIDER_NOT_ALLOWED,
        "only o, q; this is p",
    ),
    (
        asks("r", locations=("there",)),
        offers("b", 1),
        LossReason.LOCATION_NOT_ALLOWED,
        "only there; this is here",
    ),
    (
        asks("r", latest_finish_ms=HOUR),
        offers("b", 1, startup_ms=1500),
        LossReason.TOO_LATE,
        "asks the end by 3600 s, ends at 3601.5 s",
    ),
    (
        asks("r", interruptible=False),
        offers("b", 1, interruption_millis_per_hour=50),
        LossReason.INTERRUPTIBLE,
        "must not be interrupted, revoked 0.05 times an hour",
    ),
    (
        asks("r"),
        offers("b", 1, bid={"valid_until": NOW}),
        LossReason.EXPIRED,
        f"offered until {NOW.isoformat()}, wanted at {NOW.isoformat()}",
    ),
    (
        asks("r", quantity=3),
        offers("b", 1, bid={"quantity": 2}),
        LossReason.CAPACITY,
        "asks 3 at once, has 2 of them",
    ),
]


@pytest.mark.parametrize(("request_", "bid", "reason", "detail"), CASES)
def test_each_reason_is_named_with_its_figures(
    request_: ResourceRequest, bid: Bid, reason: LossReason, detail: str
) -> None:
    assert [(loss.reason, loss.detail) for loss in losses(request_, bid)] == [(reason, detail)]


NARROWLY: list[tuple[dict[str, Any], Bid]] = [
    ({"cores": 4, "gib": 4}, offers("b", 1)),
    ({"gpu_type": "a100"}, offers("b", 1, gpu_type="A100", gpu_count=1)),
    ({"max_price_microusd_per_hour": 7}, offers("b", 7)),
    ({"latest_finish_ms": HOUR}, offers("b", 1)),
    ({"providers": ("p",), "locations": ("here",)}, offers("b", 1)),
    ({}, offers("b", 1, bid={"valid_until": NOW + timedelta(seconds=1)})),
    ({"latest_finish_ms": HOUR // 2}, offers("b", 1, bid={"performance_millis": 2000})),
]


@pytest.mark.parametrize(("asked", "bid"), NARROWLY)
def test_what_just_fits_is_feasible(asked: dict[str, Any], bid: Bid) -> None:
    assert losses(asks("r", **asked), bid) == ()


def test_all_reasons_are_given_at_once() -> None:
    request = asks("r", cores=9, gib=9, max_price_microusd_per_hour=1)
    assert [loss.reason for loss in losses(request, offers("b", 2))] == [
        LossReason.TOO_FEW_CORES,
        LossReason.TOO_LITTLE_MEMORY,
        LossReason.ABOVE_MAX_PRICE,
    ]


def test_sizes_that_print_alike_are_told_in_bytes() -> None:
    request = asks("r", gib=4)
    needs = replace(request.needs, memory_bytes=request.needs.memory_bytes + 1)
    [loss] = losses(replace(request, needs=needs), offers("b", 1))
    assert loss.detail == "asks 4294967297 B, has 4294967296 B"
