"""One round of bidding: every provider asked in parallel, every answer checked."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice

from cu_market.domain.bid import Bid
from cu_market.domain.plan import Loss, LossReason
from cu_market.domain.problem import Problem
from cu_market.domain.profile import CUProfile, ResourcePool
from cu_market.domain.rental import Rental
from cu_market.domain.request import ResourceRequest
from cu_market.domain.units import format_bytes, millis_to_cores
from cu_market.ral.answers import Inspection, pool_of
from cu_market.ral.asking import ask_all
from cu_market.ral.provider import Provider

MAX_BIDS = 10_000
"""Of one provider in one round; an endless generator ends here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BidRound:
    """What the providers offered.

    Attributes:
        bids: sound ones, in the order of the providers and of their answers; unique bid_ids.
        pool: sound profiles and capacities of all that answered.
        problems: by provider, what was dropped and why; providers without any are left out.
        silent: by provider, why it has not answered; those that have are left out.
        rentals: CUs that the run which asks has rented; each is among the bids.
        seconds: from the question to the last answer or the deadline, checks included.
    """

    bids: tuple[Bid, ...]
    pool: ResourcePool
    problems: Mapping[str, tuple[Problem, ...]]
    silent: Mapping[str, str] = field(default_factory=dict)
    rentals: tuple[Rental, ...] = ()
    seconds: float

    def minimum_ms(self, bid_id: str) -> int:
        """Returns what a lease under that bid is billed at least, in milliseconds."""
        return next((bid.minimum_ms for bid in self.bids if bid.bid_id == bid_id), 0)

    def valid_until(self, bid_id: str) -> datetime | None:
        """Returns when that bid's offer ends, or None."""
        return next((bid.valid_until for bid in self.bids if bid.bid_id == bid_id), None)

    def refusals_for(self, request: ResourceRequest) -> tuple[Loss, ...]:
        """Returns why CUs that nobody bid are too small for a request, one per such CU.

        A provider that can serve none of the requests makes no bid, so the program has no bid
        whose loss it could explain; the pool says what there would have been.
        """
        offered = {bid.profile.cu_id for bid in self.bids}
        return tuple(
            loss
            for profile in self.pool.profiles
            if profile.cu_id not in offered
            for loss in _shortfalls(profile, request)
        )


def collect_bids(
    providers: Sequence[Provider],
    requests: Sequence[ResourceRequest],
    *,
    now: datetime,
    deadline_seconds: float,
    performance: Mapping[str, int] | None = None,
) -> BidRound:
    """Returns the providers' bids, all asked at once, none waited for past the deadline.

    Args:
        providers: with unique names.
        requests: what is asked for.
        now: the auction's time, aware UTC.
        deadline_seconds: for all providers together.
        performance: measured score in thousandths by cu_id; where there is one, a bid's own is
            lowered to it, never raised.
    """
    begun = time.monotonic()

    def question(provider: Provider) -> tuple[object, tuple[object, ...]]:
        offers = provider.bid(requests, now)
        return provider.pool(), tuple(islice(offers, MAX_BIDS + 1))

    answers = ask_all(providers, question, deadline_seconds=deadline_seconds)
    inspection = Inspection()
    for provider in providers:
        name, answer = provider.name, answers[provider.name]
        if answer.reply is None:
            inspection.blame(name, "bid", "", answer.silence, "see the provider's own log")
            continue
        pool, offers = answer.reply
        if len(offers) > MAX_BIDS:
            what = f"more than {MAX_BIDS} bids; the rest was not read"
            inspection.blame(name, "bid", len(offers), what, "offer fewer, larger CUs")
        inspection.take_pool(name, pool)
        inspection.take_bids(name, offers[:MAX_BIDS])
    return BidRound(
        bids=tuple(_lowered(bid, performance or {}) for bid in inspection.bids.values()),
        pool=pool_of(inspection),
        problems={name: tuple(found) for name, found in inspection.problems.items()},
        silent={name: each.silence for name, each in answers.items() if each.reply is None},
        seconds=time.monotonic() - begun,
    )


def ask_pools(
    providers: Sequence[Provider],
    *,
    cu_ids: Collection[str],
    capacity_ids: Collection[str],
    deadline_seconds: float,
) -> Mapping[str, ResourcePool]:
    """Returns of the providers' pools as they are now what is named, by provider; who has not
    answered is left out.

    Args:
        providers: with unique names.
        cu_ids: of the profiles that are read; the rest of a pool is neither checked nor copied.
        capacity_ids: of the capacities that are read beside those of the profiles.
        deadline_seconds: for all providers together.
    """
    answers = ask_all(
        providers, lambda provider: provider.pool(), deadline_seconds=deadline_seconds
    )
    pools: dict[str, ResourcePool] = {}
    for name, answer in answers.items():
        if answer.reply is not None:
            inspection = Inspection()
            inspection.take_pool(name, answer.reply, cu_ids=cu_ids, capacity_ids=capacity_ids)
            pools[name] = pool_of(inspection)
    return pools


def _lowered(bid: Bid, performance: Mapping[str, int]) -> Bid:
    """Returns the bid with min(declared, measured) as its score, where one was measured."""
    measured = performance.get(bid.profile.cu_id)
    if measured is None or measured >= bid.performance_millis:
        return bid
    return replace(bid, performance_millis=max(1, measured))


def _shortfalls(profile: CUProfile, request: ResourceRequest) -> list[Loss]:
    """Returns why a CU is too small for a request: its first shortfall, or nothing."""
    needs = request.needs
    if needs.cpu_millis > profile.cpu_millis:
        reason = LossReason.TOO_FEW_CORES
        asks, has = (millis_to_cores(v) for v in (needs.cpu_millis, profile.cpu_millis))
        detail = f"asks {asks} cores, has {has}"
    elif needs.memory_bytes > profile.memory_bytes:
        reason = LossReason.TOO_LITTLE_MEMORY
        sizes = (format_bytes(v) for v in (needs.memory_bytes, profile.memory_bytes))
        detail = "asks {}, has {}".format(*sizes)
    elif needs.gpu_count > profile.gpu_count or request.gpu_type not in (None, profile.gpu_type):
        reason = LossReason.NO_SUCH_GPU
        asked = f"{needs.gpu_count} x {request.gpu_type or 'GPU'}"
        detail = f"asks {asked}, has {profile.gpu_count} x {profile.gpu_type or 'GPU'}"
    else:
        return []
    return [
        Loss(
            bid_id="",
            provider=profile.provider,
            resource_id=profile.cu_id,
            reason=reason,
            detail=detail,
        )
    ]
