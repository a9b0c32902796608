"""What a run would have cost otherwise: at another run's sizes, or on one static machine.

Both keep what really happened in time (the run's own durations) and change only what was paid
for, so that they say what sizing and sharing saved and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cu_market.domain.allocation import Allocation
from cu_market.domain.auction import Auction
from cu_market.domain.bid import Rates
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import MICROUSD, MS_PER_HOUR, divide_half_even, usd_to_microusd
from cu_market.market.bill import RunBill, lease_us, settled_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """A run's bill against what it would have been at the first run's sizes.

    Attributes:
        run_id: the run.
        first_run_id: whose sizes it is held against.
        cost_microusd: what the run cost.
        at_first_sizes_microusd: the sum over its leases of the price of the first run's size of
            that step, at the tariff that the lease was awarded, times the lease's own time.
        unmatched: steps that the first run did not have; they count at their own size.
    """

    run_id: str
    first_run_id: str
    cost_microusd: int
    at_first_sizes_microusd: int
    unmatched: tuple[str, ...] = ()

    @property
    def ratio(self) -> float | None:
        """Cost over cost at the first run's sizes, or None where that is nothing."""
        if self.at_first_sizes_microusd == 0:
            return None
        return self.cost_microusd / self.at_first_sizes_microusd

    def to_record(self) -> dict[str, object]:
        """Returns the comparison ready for JSON."""
        return {
            "run_id": self.run_id,
            "first_run_id": self.first_run_id,
            "cost_usd": self.cost_microusd / MICROUSD,
            "at_first_sizes_usd": self.at_first_sizes_microusd / MICROUSD,
            "saved_usd": (self.at_first_sizes_microusd - self.cost_microusd) / MICROUSD,
            "ratio": self.ratio,
            "unmatched": list(self.unmatched),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticCost:
    """A run on one machine of the pool, kept for it from first lease to last end.

    Attributes:
        resource_id: the machine.
        price_microusd_per_hour: of the whole of it.
        wall_us: microseconds of the run, first lease to last end.
        cost_microusd: price x time.
    """

    resource_id: str
    price_microusd_per_hour: int
    wall_us: int
    cost_microusd: int

    def to_record(self) -> dict[str, object]:
        """Returns the comparison ready for JSON."""
        return {
            "resource_id": self.resource_id,
            "price_per_hour": self.price_microusd_per_hour / MICROUSD,
            "wall_seconds": self.wall_us / 10**6,
            "cost_usd": self.cost_microusd / MICROUSD,
        }


def rates_of(auctions: Sequence[Auction]) -> dict[tuple[str, str], Rates]:
    """Returns the rates of elastic bids by (auction_id, cu_id), as the reports keep them."""
    found: dict[tuple[str, str], Rates] = {}
    for auction in auctions:
        for bid in auction.report.get("bids", ()):
            if bid.get("rates"):
                found[auction.auction_id, bid["cu_id"]] = Rates(**bid["rates"])
    return found


def savings(
    run: Sequence[Allocation],
    first_run: Sequence[Allocation],
    auctions: Sequence[Auction],
) -> Saving:
    """Returns what a run cost against the first run's sizes.

    A CU sold whole costs the same at any size. Where a step had several attempts in the first
    run, the size of the last counts: the one that was enough.

    Args:
        run: the run's rows; not empty.
        first_run: the first run's rows; not empty.
        auctions: of the run; their reports hold the tariffs.
    """
    sizes = {row.step_key: row.size for row in settled_rows(first_run)}
    rates = rates_of(auctions)
    rows = settled_rows(run)
    otherwise = 0
    for row in rows:
        size = sizes.get(row.step_key, row.size)
        otherwise += cost_of_time(_price(row, size, rates), lease_us(row))
    return Saving(
        run_id=run[0].run_id,
        first_run_id=first_run[0].run_id,
        cost_microusd=sum(row.cost_microusd or 0 for row in rows),
        at_first_sizes_microusd=otherwise,
        unmatched=tuple(sorted({row.step_key for row in rows} - sizes.keys())),
    )


def static_cost(bill: RunBill, auctions: Sequence[Auction]) -> StaticCost | None:
    """Returns what the run would have cost on one static machine, or None where nobody bid.

    The machine is the dearest CU that was offered by the providers which ran it: a machine kept
    for one's own use is not bought at the price of what others leave over.
    """
    used = {line.name for line in bill.by_provider}
    offers = [
        bid
        for auction in auctions
        for bid in auction.report.get("bids", ())
        if bid["provider"] in used
    ]
    if not offers:
        return None
    dearest = max(offers, key=lambda bid: (bid["price_per_hour"], bid["cu_id"]))
    price = _microusd(dearest)
    return StaticCost(
        resource_id=dearest["cu_id"],
        price_microusd_per_hour=price,
        wall_us=bill.wall_us,
        cost_microusd=cost_of_time(price, bill.wall_us),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedSaving:
    """A plan's expected cost against one machine kept for the run, before anything has run.

    Attributes:
        cost_microusd: what the awards are expected to cost.
        static: the machine, kept from the run's start to the plan's end.
    """

    cost_microusd: int
    static: StaticCost

    @property
    def saved_microusd(self) -> int:
        """Negative where buying by the step is the dearer way."""
        return self.static.cost_microusd - self.cost_microusd


def expected_saving(report: Mapping[str, Any]) -> ExpectedSaving | None:
    """Returns what an auction's report promises to save, or None where nobody won anything.

    The machine is chosen as static_cost does: the dearest CU of the providers that won.
    """
    winners = [step["winner"] for step in report["steps"] if step["winner"]]
    providers = {winner["provider"] for winner in winners}
    offers = [bid for bid in report["bids"] if bid["provider"] in providers]
    if not offers:
        return None
    dearest = max(offers, key=lambda bid: (bid["price_per_hour"], bid["cu_id"]))
    price = _microusd(dearest)
    seconds = max(winner["start_seconds"] + winner["expected_seconds"] for winner in winners)
    wall_us = round(seconds * 10**6)
    static = StaticCost(
        resource_id=dearest["cu_id"],
        price_microusd_per_hour=price,
        wall_us=wall_us,
        cost_microusd=cost_of_time(price, wall_us),
    )
    cost = sum(usd_to_microusd(winner["expected_cost_usd"]) for winner in winners)
    return ExpectedSaving(cost_microusd=cost, static=static)


def _price(row: Allocation, size: ResourceVector, rates: Mapping[tuple[str, str], Rates]) -> int:
    """Returns micro-dollars an hour of that size at the lease's tariff."""
    found = rates.get((row.auction_id, row.resource_id))
    if found is None or size == row.size:
        return row.price_microusd_per_hour
    return found.price_microusd_per_hour(size)


def _microusd(bid: Mapping[str, Any]) -> int:
    return usd_to_microusd(bid["price_per_hour"])


def cost_of_time(price_microusd_per_hour: int, microseconds: int) -> int:
    """Returns price x time, half-even, once: the ledger's own rule at settlement."""
    return divide_half_even(price_microusd_per_hour * microseconds, MS_PER_HOUR * 1000)
