"""A market whose forecasts of times spread as a test says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cu_market.domain.request import Quantiles, ResourceRequest
from cu_market.market.auction import Market
from cu_market.market.demand.requests import Demand


def spread(request: ResourceRequest, ratio: float) -> ResourceRequest:
    """Returns a request whose time's 95th percentile is so many times its median."""
    takes = request.duration_ms
    known = Quantiles(p10=round(takes / ratio), p50=takes, p95=round(ratio * takes))
    return replace(request, duration_quantiles_ms=known)


def unsure(market: Market, **ratios: float) -> Market:
    """Returns the market; of these steps the times spread so much, of the others not at all."""
    size = market.size

    def sized(*args: Any, **kwargs: Any) -> Demand:
        demand = size(*args, **kwargs)
        requests = (
            spread(each, ratios[each.request_id]) if each.request_id in ratios else each
            for each in demand.requests
        )
        return replace(demand, requests=tuple(requests))

    market.size = sized  # type: ignore[method-assign]
    return market
