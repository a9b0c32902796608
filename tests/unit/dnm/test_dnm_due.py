from __future__ import annotations

from datetime import UTC, datetime

from cu_market.dnm.due import due_ms
from cu_market.dnm.offers import tabulate
from cu_market.domain.bid import Bid
from cu_market.domain.profile import CUProfile
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector

CORE = ResourceVector(cpu_millis=1000, memory_bytes=10**9)


def request(name: str, takes_ms: int, *after: str, latest: int | None) -> ResourceRequest:
    return ResourceRequest(
        request_id=name,
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        duration_ms=takes_ms,
        needs=CORE,
        depends_on=after,
        latest_finish_ms=latest,
    )


def bid(performance: int) -> Bid:
    profile = CUProfile(
        cu_id=f"cu{performance}",
        provider="p",
        location="here",
        capacity_id=f"cap{performance}",
        cpu_millis=1000,
        memory_bytes=10**9,
        price_microusd_per_hour=performance,
    )
    return Bid(
        bid_id=profile.cu_id,
        profile=profile,
        price_microusd_per_hour=performance,
        performance_millis=performance,
    )


def due(*requests: ResourceRequest) -> tuple[int | None, ...]:
    return due_ms(tabulate(requests, [bid(1000), bid(2000)], {}))


def test_what_follows_has_its_least_time() -> None:
    fork = (
        request("a", 100, latest=1000),
        request("b", 400, "a", latest=1000),
        request("c", 800, "a", latest=1000),
        request("d", 60, "b", "c", latest=1000),
    )
    assert due(*fork) == (1000 - 30 - 400, 970, 970, 1000)


def test_without_a_deadline_nothing_is_due_and_a_childs_binds_its_parent() -> None:
    assert due(request("a", 100, latest=None), request("b", 400, "a", latest=None)) == (None, None)
    assert due(request("a", 100, latest=None), request("b", 400, "a", latest=600)) == (400, 600)


def test_what_ends_late_in_any_case_is_due_at_its_quickest() -> None:
    late = (request("a", 100, latest=420), request("b", 800, "a", latest=420))
    assert due(*late) == (50, 450)
