"""What becomes of an auction in which nobody serves some steps: refused, or asked again later."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from cu_market.domain.plan import LossReason, Plan
from cu_market.domain.problem import CUMarketError, InvalidInputError, Problem
from cu_market.domain.request import ResourceRequest
from cu_market.domain.units import format_bytes, format_usd
from cu_market.market.apart import apart_problem, is_apart, may_be_together
from cu_market.market.demand.requests import Demand
from cu_market.ral.bids import BidRound
from cu_market.ral.provider import Provider, Refilling

OUT_OF_TIME = "lower the setting bid_deadline_seconds or solve_seconds, so that it ends in time"
"""The remedy where a caller has waited as long as it may: a launcher, which holds up others."""

TOLD = 5
"""So many names stand in a sentence."""


class MarketUnavailableError(CUMarketError):
    """The auction could not be held now; asking again may help.

    Args:
        what: what is in the way.
        remedy: what may be done beside asking again.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"


class NoRoomYetError(MarketUnavailableError):
    """Nobody has room for some steps now; somebody may have it later."""


def refuse_unserved(
    outcome: Plan, demand: Demand, bids: BidRound, providers: Mapping[str, Provider]
) -> None:
    """Returns if every step is served.

    Raises:
        InvalidInputError: a step is too much for everybody, at any time.
        NoRoomYetError: there is no room now, and there may be later.
        MarketUnavailableError: a provider that has not answered may be who could serve it.
    """
    if not outcome.unserved:
        return
    requests = {request.request_id: request for request in demand.requests}
    wanted = [requests[unserved.request_id] for unserved in outcome.unserved]
    problems = _problems(outcome, requests, bids)
    if not all(_is_for_later(request, demand.requests, bids, providers) for request in wanted):
        raise InvalidInputError(problems)
    said = "; ".join(f"{problem.where}: {problem.what}" for problem in problems)
    silent = [name for name in bids.silent if not providers[name].capabilities.quotes_only]
    if silent:
        names = ", ".join(silent)
        raise MarketUnavailableError(
            f"no answer from {names}; without it, {said}", unreached(names)
        )
    raise NoRoomYetError(f"nobody has room now: {said}", _room_remedy(problems))


def no_room_left(
    outcome: Plan,
    demand: Demand,
    bids: BidRound,
    providers: Mapping[str, Provider],
    told: Sequence[str],
) -> MarketUnavailableError:
    """Returns what to raise where a withdrawal has left steps that nobody else serves now.

    Args:
        outcome, demand, bids, providers: as refuse_unserved.
        told: each withdrawal.
    """
    requests = {request.request_id: request for request in demand.requests}
    left = [entry.request_id for entry in outcome.unserved]
    said = f"{'; '.join(told)}; nobody else serves {named(left)} now"
    remedy = _room_remedy(_problems(outcome, requests, bids))
    if all(_is_for_later(requests[name], demand.requests, bids, providers) for name in left):
        return NoRoomYetError(said, remedy)
    return MarketUnavailableError(said, remedy)


def refuse_late(is_wanted: Callable[[], bool], what: str) -> None:
    """Raises MarketUnavailableError where the caller waits no longer.

    Args:
        is_wanted: whether it still waits.
        what: took too long, in words.
    """
    if not is_wanted():
        raise MarketUnavailableError(f"{what} took longer than its caller waits", OUT_OF_TIME)


def unreached(names: str) -> str:
    """Returns the remedy where providers of those names have not answered."""
    return (
        f"see with `cu-market pool` why {names} did not answer, or raise the setting "
        "bid_deadline_seconds"
    )


def named(names: Sequence[str]) -> str:
    """Returns names for a sentence: TOLD of them, and how many more there are."""
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return ", ".join(names[:TOLD]) + more


def _room_remedy(problems: Sequence[Problem]) -> str:
    """Returns the remedy where somebody may have room another time."""
    others = ", or ".join(dict.fromkeys(problem.remedy for problem in problems))
    return f"there may be room when a lease ends; else {others}"


def _is_for_later(
    request: ResourceRequest,
    requests: Sequence[ResourceRequest],
    bids: BidRound,
    providers: Mapping[str, Provider],
) -> bool:
    """Whether somebody who does not bid for a request now may do so another time, where all that
    stays together with it may be served, too."""
    if not _may_bid_later(request, bids, providers):
        return False
    if not request.together:
        return True
    group = [
        (each, _may_bid_later(each, bids, providers)) for each in _group(request.together, requests)
    ]
    return may_be_together(group, bids)


def _may_bid_later(
    request: ResourceRequest, bids: BidRound, providers: Mapping[str, Provider]
) -> list[str]:
    """Returns who does not bid for a request now and may do so another time."""
    return [
        name
        for name, each in providers.items()
        if not each.capabilities.quotes_only
        and (not request.providers or name in request.providers)
        and (name in bids.silent or (isinstance(each, Refilling) and each.could_serve(request)))
    ]


def _problems(
    outcome: Plan, requests: Mapping[str, ResourceRequest], bids: BidRound
) -> list[Problem]:
    hidden = "; ".join(str(p) for found in bids.problems.values() for p in found)
    groups = {requests[unserved.request_id].together for unserved in outcome.unserved} - {""}
    apart = [_group(name, list(requests.values())) for name in sorted(groups)]
    apart = [group for group in apart if is_apart(group, bids)]
    problems = [apart_problem(group, bids) for group in apart]
    told = {request.request_id for group in apart for request in group}
    for unserved in outcome.unserved:
        request = requests[unserved.request_id]
        if request.request_id in told:
            continue
        losses = [*unserved.losses, *bids.refusals_for(request)]
        said = "; ".join(f"{loss.resource_id}: {loss.detail}" for loss in losses)
        # A dominated bid was not looked at further: who dominates it says what is in the way.
        reasons = {loss.reason for loss in losses} - {LossReason.DOMINATED}
        where, value, remedy = _in_the_way(request, reasons)
        problems.append(
            Problem(
                where=f"step '{request.request_id}'{where}",
                value=value,
                what="no CU can serve it: "
                + (said or "nobody bid")
                + (f" (refused bids: {hidden})" if hidden else ""),
                remedy=remedy,
            )
        )
    return problems


def _in_the_way(request: ResourceRequest, reasons: Collection[LossReason]) -> tuple[str, str, str]:
    """Returns what of a request nobody can meet: which tag, what it says, and the remedy."""
    limit, latest = request.max_price_microusd_per_hour, request.latest_finish_ms
    tags: dict[LossReason, tuple[str, str, str]] = {
        LossReason.ABOVE_MAX_PRICE: (
            "cu/max_price_usd_per_hour",
            "" if limit is None else f"{format_usd(limit)}/h",
            "allow a higher price",
        ),
        LossReason.TOO_LATE: (
            "cu/deadline_seconds",
            "" if latest is None else f"{latest / 1000:g} s",
            "allow more time",
        ),
        LossReason.PROVIDER_NOT_ALLOWED: (
            "cu/provider",
            ", ".join(request.providers),
            "allow another provider",
        ),
        LossReason.LOCATION_NOT_ALLOWED: (
            "cu/location",
            ", ".join(request.locations),
            "allow another location",
        ),
        LossReason.KEPT_ELSEWHERE: (
            "cu/together",
            request.together,
            "give what hands on no files another name",
        ),
        LossReason.NO_RETRY: (
            "cu/deadline_seconds or cu/interruptible",
            "" if latest is None else f"{latest / 1000:g} s",
            "allow more time, or always",
        ),
        LossReason.INTERRUPTIBLE: ("cu/interruptible", "false", "let it be interrupted"),
    }
    if reasons and all(reason in tags for reason in reasons):
        said = [tags[reason] for reason in sorted(reasons)]
        names, values, remedies = zip(*said, strict=True)
        joined = ", or ".join(remedies)
        return f": tag {', '.join(names)}", ", ".join(values), f"{joined}, or add a provider"
    asked = f"{request.needs.cpu_millis / 1000:g} cores, {format_bytes(request.needs.memory_bytes)}"
    there = "" if request.kept is None else f" in {request.kept.location}"
    return "", asked, f"ask for less, raise its limits, or add a provider that has such a CU{there}"


def _group(name: str, requests: Sequence[ResourceRequest]) -> list[ResourceRequest]:
    """Returns the requests of one run that are kept together under a name."""
    return [request for request in requests if request.together == name]
