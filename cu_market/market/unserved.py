"""What becomes of an auction in which nobody serves some steps: refused, or asked again later."""

from __future__ import annotations

from collections.abc import Mapping

from cu_market.domain.plan import Plan
from cu_market.domain.problem import CUMarketError, InvalidInputError, Problem
from cu_market.domain.request import ResourceRequest
from cu_market.market.requests import Demand
from cu_market.ral.bids import BidRound
from cu_market.ral.provider import Provider, Refilling


class MarketUnavailableError(CUMarketError):
    """The auction could not be held now; asking again may help."""


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
    if not all(_is_for_later(request, bids, providers) for request in wanted):
        raise InvalidInputError(problems)
    said = "; ".join(f"{problem.where}: {problem.what}" for problem in problems)
    silent = [name for name in bids.silent if not providers[name].capabilities.quotes_only]
    if silent:
        raise MarketUnavailableError(f"no answer from {', '.join(silent)}; without it, {said}")
    raise NoRoomYetError(f"nobody has room now: {said}")


def _is_for_later(
    request: ResourceRequest, bids: BidRound, providers: Mapping[str, Provider]
) -> bool:
    """Whether somebody who does not bid for a request now may do so another time."""
    return any(
        name in bids.silent or (isinstance(each, Refilling) and each.could_serve(request))
        for name, each in providers.items()
        if not each.capabilities.quotes_only
    )


def _problems(
    outcome: Plan, requests: Mapping[str, ResourceRequest], bids: BidRound
) -> list[Problem]:
    hidden = "; ".join(str(p) for found in bids.problems.values() for p in found)
    problems = []
    for unserved in outcome.unserved:
        request = requests[unserved.request_id]
        losses = [*unserved.losses, *bids.refusals_for(request)]
        said = "; ".join(f"{loss.resource_id}: {loss.detail}" for loss in losses)
        problems.append(
            Problem(
                where=f"step '{request.request_id}'",
                value=request.reason,
                what="no CU can serve it: "
                + (said or "nobody bid")
                + (f" (refused bids: {hidden})" if hidden else ""),
                remedy="ask for less, raise its limits, or add a provider that has such a CU",
            )
        )
    return problems
