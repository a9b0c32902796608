"""A plan: which bid serves which request, what it costs, and why the others lost."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cu_market.domain.resources import ResourceVector


class LossReason(StrEnum):
    """Why a bid did not win a request. All but DEARER and CAPACITY make the pair infeasible."""

    DEARER = "dearer"
    CAPACITY = "no room left"
    TOO_FEW_CORES = "too few cores"
    TOO_LITTLE_MEMORY = "too little memory"
    NO_SUCH_GPU = "no such GPU"
    ABOVE_MAX_PRICE = "above max price"
    TOO_LATE = "too late"
    PROVIDER_NOT_ALLOWED = "provider not allowed"
    LOCATION_NOT_ALLOWED = "location not allowed"
    KEPT_ELSEWHERE = "kept together elsewhere"
    INTERRUPTIBLE = "may be interrupted"
    NO_RETRY = "no time for a retry"
    EXPIRED = "offer expired"
    ANOTHERS = "rented by another run"
    DOMINATED = "dominated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """One bid's reason for losing one request.

    Attributes:
        bid_id: the bid.
        provider: who made it.
        resource_id: the CU it offered.
        reason: machine-readable.
        detail: the same with its figures: ``asks 8.0 GiB, has 4.0 GiB``.
        cost_microusd: what it would have cost in all (money and delay), where feasible.
        wins_at_microusd_per_hour: the price at which it would have won, where it was dearer and a
            lower price could have made up for it; else None.
    """

    bid_id: str
    provider: str
    resource_id: str
    reason: LossReason
    detail: str
    cost_microusd: int | None = None
    wins_at_microusd_per_hour: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Award:
    """One request's winner.

    Attributes:
        request_id: the request.
        bid_id, provider, resource_id, capacity_id: the winner and where its room comes from.
        size: what the lease takes.
        price_microusd_per_hour: agreed price: what is paid.
        bid_price_microusd_per_hour: what was bid, where the rule is to pay another price; or None.
        start_ms: planned start, milliseconds after the auction's time.
        expected_ms: expected time there, start-up included.
        money_microusd: price x expected time, and what is paid beside it.
        cost_microusd: money plus what its delay and an interruption are expected to cost: what the
            program minimised.
        loss_microusd: what an interruption is expected to cost; part of cost_microusd.
        egress_microusd: what is paid for taking its inputs there; part of money_microusd.
        transfer_ms: what their transfer takes; part of expected_ms.
        losses: every other bid's reason, the runner-up first.
        binding: what keeps the request from something better, in words; empty where not looked at.
        more_time, more_money: what either would change, in words; empty where nothing.
    """

    request_id: str
    bid_id: str
    provider: str
    resource_id: str
    capacity_id: str
    size: ResourceVector
    price_microusd_per_hour: int
    start_ms: int
    expected_ms: int
    money_microusd: int
    cost_microusd: int
    loss_microusd: int = 0
    egress_microusd: int = 0
    transfer_ms: int = 0
    bid_price_microusd_per_hour: int | None = None
    losses: tuple[Loss, ...] = ()
    binding: str = ""
    more_time: str = ""
    more_money: str = ""

    @property
    def runner_up(self) -> Loss | None:
        """The best of those that lost, or None."""
        feasible = [loss for loss in self.losses if loss.cost_microusd is not None]
        return feasible[0] if feasible else (self.losses[0] if self.losses else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unserved:
    """A request that nobody can serve, with every bid's reason."""

    request_id: str
    losses: tuple[Loss, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The outcome of a selection, verified in exact integers.

    Attributes:
        awards: in the order of the requests.
        unserved: in the order of the requests.
        objective_microusd: sum of the awards' cost_microusd, of the penalties and of the rest.
        bound_microusd: no plan for the same input costs less.
        is_bound_independent: whether the bound was recomputed here; otherwise it is the solver's
            own, which no known plan contradicts.
        solver: who found it: ``HiGHS``, ``CBC``, ``construction``.
        is_cut: whether the clock ended the search, so that another run might differ.
        build_ms, solve_ms: milliseconds of building and of solving.
        rest_microusd: what the shares leave of the bills of CUs that the run rents whole.
        notes: what else a person should know of how it came about, a sentence each.
    """

    awards: tuple[Award, ...]
    unserved: tuple[Unserved, ...]
    objective_microusd: int
    bound_microusd: int
    is_bound_independent: bool = True
    solver: str
    is_cut: bool = False
    build_ms: int = 0
    solve_ms: int = 0
    rest_microusd: int = 0
    notes: tuple[str, ...] = ()

    @property
    def gap_ratio(self) -> float:
        """(objective - bound) / objective, 0 where the objective is 0."""
        if self.objective_microusd <= 0:
            return 0.0
        return max(0, self.objective_microusd - self.bound_microusd) / self.objective_microusd

    @property
    def money_microusd(self) -> int:
        """Expected bill."""
        return sum(award.money_microusd for award in self.awards) + self.rest_microusd

    def award_for(self, request_id: str) -> Award | None:
        """Returns the request's award, or None."""
        return next((a for a in self.awards if a.request_id == request_id), None)
