"""The tables of the ledger in memory: what schema.py has for the databases."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from cu_market.domain.allocation import Allocation, AllocationKey
from cu_market.domain.auction import Auction
from cu_market.domain.curve import UsageCurve
from cu_market.domain.lease import RunLease
from cu_market.domain.open_request import OpenRequest
from cu_market.domain.publication import Publication
from cu_market.domain.purchase import Purchase
from cu_market.domain.rental import Rental
from cu_market.domain.request import StepIdentity
from cu_market.domain.tender import Tender
from cu_market.domain.usage import Usage


@dataclass(slots=True, kw_only=True)
class Tables:
    """All rows, by key. Whoever reads or writes them has the ledger's turn.

    Attributes:
        auctions: by auction_id.
        allocations: by (run_id, step_key, attempt).
        usages: of attempts that ended, by the same key.
        run_leases: by run_id.
        tenders: by run_id.
        purchases: by purchase_id.
        rentals: by rental_id.
        open_requests: by (run_id, step_key).
        curves: (ended_at, identity, curve) by the attempt's key.
        forecasts: what is published, by the step's identity.
        last_token: the last fencing token that was given.
        noted_at: when the control plane was last noted to be up, None before the first note.
    """

    auctions: dict[str, Auction] = field(default_factory=dict)
    allocations: dict[AllocationKey, Allocation] = field(default_factory=dict)
    usages: dict[AllocationKey, Usage] = field(default_factory=dict)
    run_leases: dict[str, RunLease] = field(default_factory=dict)
    tenders: dict[str, Tender] = field(default_factory=dict)
    purchases: dict[str, Purchase] = field(default_factory=dict)
    rentals: dict[str, Rental] = field(default_factory=dict)
    open_requests: dict[tuple[str, str], OpenRequest] = field(default_factory=dict)
    curves: dict[AllocationKey, tuple[datetime, StepIdentity, UsageCurve]] = field(
        default_factory=dict
    )
    forecasts: dict[StepIdentity, Publication] = field(default_factory=dict)
    last_token: int = 0
    noted_at: datetime | None = None
