"""Whether a bid could serve a request at all, and every reason why it could not."""

from __future__ import annotations

from collections.abc import Sequence

from cu_market.domain.bid import Bid
from cu_market.domain.plan import Loss, LossReason
from cu_market.domain.request import Kept, ResourceRequest
from cu_market.domain.units import MILLIS, format_bytes, format_usd

TOLD_STEPS = 5
"""So many steps that a request stays with are named."""

Refusals = tuple[tuple[LossReason, str], ...]
"""Reasons with their figures; empty where the pair is feasible."""


def refusals(
    request: ResourceRequest, bid: Bid, *, expected_ms: int, after_ms: int = 0
) -> Refusals:
    """Returns every reason why the bid cannot serve the request, whatever room is left.

    Args:
        request: what is asked.
        bid: what is offered.
        expected_ms: milliseconds that the lease would take there, start-up included.
        after_ms: milliseconds at reference speed of what waits for it, until the run's end.
    """
    found: list[tuple[LossReason, str]] = []
    found += _size_refusals(request, bid)
    found += _rule_refusals(request, bid)
    found += _time_refusals(request, bid, expected_ms, after_ms)
    return tuple(found)


def latest_end_ms(
    request: ResourceRequest, bid: Bid, *, expected_ms: int, after_ms: int
) -> int | None:
    """Returns when a lease must have ended, milliseconds after the auction's time, or None.

    Where it may be revoked, so early that, revoked at its very end, the request could run as long
    again and what waits for it still end in time; unless it was said that no retry need fit.

    Args:
        request: what is asked.
        bid: what is offered.
        expected_ms, after_ms: as refusals.
    """
    latest = request.latest_finish_ms
    if latest is None or not needs_retry(request, bid):
        return latest
    return latest - after_ms - expected_ms


def needs_retry(request: ResourceRequest, bid: Bid) -> bool:
    """Whether a bid may serve a request only where time is left for a retry."""
    return request.retry_must_fit and bid.profile.interruption_millis_per_hour > 0


def as_losses(bid: Bid, reasons: Refusals) -> tuple[Loss, ...]:
    """Returns the reasons as losses of that bid, in the same order."""
    return tuple(
        Loss(
            bid_id=bid.bid_id,
            provider=bid.provider,
            resource_id=bid.profile.cu_id,
            reason=reason,
            detail=detail,
        )
        for reason, detail in reasons
    )


def losses(request: ResourceRequest, bid: Bid) -> tuple[Loss, ...]:
    """Returns a Loss for every reason why the bid cannot serve the request; empty if it can."""
    expected_ms = bid.profile.startup_ms + bid.duration_of(request)
    return as_losses(bid, refusals(request, bid, expected_ms=expected_ms))


def _size_refusals(request: ResourceRequest, bid: Bid) -> list[tuple[LossReason, str]]:
    needs, profile = request.needs, bid.profile
    found: list[tuple[LossReason, str]] = []
    if needs.cpu_millis > profile.cpu_millis:
        asks, has = needs.cpu_millis / MILLIS, profile.cpu_millis / MILLIS
        found.append((LossReason.TOO_FEW_CORES, f"asks {asks:g} cores, has {has:g}"))
    if needs.memory_bytes > profile.memory_bytes:
        found.append((LossReason.TOO_LITTLE_MEMORY, _memory_detail(request, bid)))
    wanted = request.gpu_type
    if wanted is not None and wanted.lower() != (profile.gpu_type or "").lower():
        found.append((LossReason.NO_SUCH_GPU, f"asks {wanted}, has {profile.gpu_type or 'none'}"))
    elif needs.gpu_count > profile.gpu_count:
        found.append(
            (LossReason.NO_SUCH_GPU, f"asks {needs.gpu_count} GPUs, has {profile.gpu_count}")
        )
    if bid.rates is None and request.quantity > bid.quantity:
        found.append(
            (LossReason.CAPACITY, f"asks {request.quantity} at once, has {bid.quantity} of them")
        )
    return found


def _memory_detail(request: ResourceRequest, bid: Bid) -> str:
    """Says both sizes, in bytes where rounding would print them alike."""
    asks, has = format_bytes(request.needs.memory_bytes), format_bytes(bid.profile.memory_bytes)
    if asks == has:
        asks, has = f"{request.needs.memory_bytes} B", f"{bid.profile.memory_bytes} B"
    return f"asks {asks}, has {has}"


def _rule_refusals(request: ResourceRequest, bid: Bid) -> list[tuple[LossReason, str]]:
    profile = bid.profile
    found: list[tuple[LossReason, str]] = []
    limit, price = request.max_price_microusd_per_hour, bid.price_for(request.needs)
    if limit is not None and price > limit:
        found.append(
            (
                LossReason.ABOVE_MAX_PRICE,
                f"asks at most {format_usd(limit)}/h, costs {format_usd(price)}/h",
            )
        )
    if request.providers and bid.provider not in request.providers:
        found.append(
            (LossReason.PROVIDER_NOT_ALLOWED, _choice_detail(request.providers, bid.provider))
        )
    if request.locations and profile.location not in request.locations:
        found.append(
            (LossReason.LOCATION_NOT_ALLOWED, _choice_detail(request.locations, profile.location))
        )
    if request.kept is not None and profile.location != request.kept.location:
        found.append(
            (LossReason.KEPT_ELSEWHERE, _kept_detail(request, request.kept, profile.location))
        )
    if bid.run_id and request.run_id not in ("", bid.run_id):
        found.append((LossReason.ANOTHERS, f"run {bid.run_id[:8]} has it"))
    hazard = profile.interruption_millis_per_hour
    if hazard and not request.interruptible:
        found.append(
            (
                LossReason.INTERRUPTIBLE,
                f"must not be interrupted, revoked {hazard / MILLIS:g} times an hour",
            )
        )
    return found


def _choice_detail(allowed: Sequence[str], offered: str) -> str:
    return f"only {', '.join(sorted(allowed))}; this is {offered}"


def _kept_detail(request: ResourceRequest, kept: Kept, offered: str) -> str:
    where = f"in {kept.location}; this is {offered}"
    count = len(kept.by) - (request.own_name in kept.by)
    if not count:
        return f"has begun {where}"
    # Of a thousand steps kept together each has the same tuple: only its first names are looked at.
    names = [name for name in kept.by[: TOLD_STEPS + 1] if name != request.own_name][:TOLD_STEPS]
    more = f" and {count - len(names)} more" if count > len(names) else ""
    return f"stays with {', '.join(names)}{more} {where}"


def _time_refusals(
    request: ResourceRequest, bid: Bid, expected_ms: int, after_ms: int
) -> list[tuple[LossReason, str]]:
    found: list[tuple[LossReason, str]] = []
    finish_ms, latest_ms = request.earliest_start_ms + expected_ms, request.latest_finish_ms
    if latest_ms is not None and finish_ms > latest_ms:
        found.append((LossReason.TOO_LATE, late_detail(latest_ms, finish_ms)))
    elif latest_ms is not None:
        end_ms = latest_end_ms(request, bid, expected_ms=expected_ms, after_ms=after_ms)
        if end_ms is not None and finish_ms > end_ms:
            found.append((LossReason.NO_RETRY, no_retry_detail(end_ms, finish_ms)))
    if bid.valid_until is not None and bid.valid_until <= request.timestamp:
        found.append(
            (
                LossReason.EXPIRED,
                f"offered until {bid.valid_until.isoformat()}, "
                f"wanted at {request.timestamp.isoformat()}",
            )
        )
    return found


def no_retry_detail(latest_ms: int, finish_ms: int) -> str:
    """Returns that a lease which may be revoked would end too late for a retry, in words."""
    return (
        f"may be revoked: a retry fits if it ends by {latest_ms / MILLIS:g} s, it would end at "
        f"{finish_ms / MILLIS:g} s"
    )


def late_detail(latest_ms: int, finish_ms: int) -> str:
    """Returns the deadline and what would be reached, in words."""
    return f"asks the end by {latest_ms / MILLIS:g} s, ends at {finish_ms / MILLIS:g} s"
