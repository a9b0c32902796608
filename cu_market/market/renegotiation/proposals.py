"""What an auction of steps that have not started would bring now, and taking some of it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Mapping, Sequence

from cu_market.domain.allocation import Allocation
from cu_market.domain.auction import Auction
from cu_market.domain.outline import RunOutline
from cu_market.domain.plan import Award
from cu_market.domain.rental import STANDING_RENTALS
from cu_market.domain.spec import Mode
from cu_market.market.auction import Cleared, Market
from cu_market.market.awarding import allocation_of
from cu_market.market.demand.requests import in_situation, without_deadline
from cu_market.market.renegotiation.replan import Situation
from cu_market.market.renting.offered import with_own_rentals
from cu_market.market.report import auction_report
from cu_market.market.together.beside import account_of, beside_others_in_time
from cu_market.market.together.crowd import read_crowd
from cu_market.market.together.joint import Together
from cu_market.market.together.retender import open_requests
from cu_market.market.unserved import refuse_unserved


def propose(
    market: Market,
    outline: RunOutline,
    situation: Situation,
    *,
    floors: Mapping[str, int] | None = None,
    excluded: Collection[str] = (),
) -> Cleared:
    """Returns what an auction of steps that have not started would bring now; writes nothing.

    The deadline is kept in as many cases as in an auction, if it can be. Where it cannot be met
    any more even at medians, the plan is the quickest that bids allow. What moves
    while a run goes is paid as bid: the harm that a winner spares others is that of a few steps
    left, and where a run is late, of minutes at any price.

    Args:
        market: open.
        outline: the run and its steps that have not started.
        situation: where the run stands.
        floors, excluded: as Market.clear.

    Raises:
        InvalidInputError, MarketUnavailableError: as Market.clear.
    """
    began = time.monotonic()
    now = market.now()
    crowd = read_crowd(market.ledger, outline.run_id, now)
    demand, bids = market.offers(
        outline,
        floors or {},
        now,
        excluded,
        mode=Mode.MARKET,
        crowd=crowd,
        running_ms=situation.running_ms,
    )
    own = market.ledger.rentals(run_id=outline.run_id, states=STANDING_RENTALS)
    bids, crowd = with_own_rentals(own, bids, crowd, now, excluded)
    demand = in_situation(demand, situation)

    def planned() -> Together:
        return beside_others_in_time(
            market,
            outline,
            demand,
            bids,
            crowd,
            may_move=False,
            is_priced=False,
            may_rent=False,
        )

    found = planned()
    if found.plan.unserved:
        demand = without_deadline(demand)
        found = planned()
    outcome = found.plan
    refuse_unserved(outcome, demand, bids, market.providers)
    seconds = time.monotonic() - began
    auction = Auction(
        auction_id=uuid.uuid4().hex,
        run_id=outline.run_id,
        held_at=now,
        mode=str(Mode.MARKET),
        place="renegotiation",
        report=auction_report(outline, demand, bids, outcome, seconds=seconds, ends=found.ends),
    )
    return Cleared(auction=auction, demand=demand, plan=outcome, round=bids, seconds=seconds)


def commit(
    market: Market,
    proposal: Cleared,
    awards: Sequence[Award],
    attempts: Mapping[str, int],
    moves: Mapping[str, int],
) -> dict[str, Allocation]:
    """Writes some of a proposal's awards with its auction; returns them by step key.

    Args:
        market: open.
        proposal: what propose has returned.
        awards: those that are taken.
        attempts: the ledger attempt of each.
        moves: by step key, how often it was moved of free will, this time counted.

    Raises:
        AwardTakenError: another run's auction has awarded one of them meanwhile.
    """
    auction, demand = proposal.auction, proposal.demand
    allocations = {
        award.request_id: allocation_of(
            award,
            auction.run_id,
            auction.auction_id,
            attempts[award.request_id],
            auction.held_at,
            minimum_ms=proposal.round.minimum_ms(award.bid_id),
            valid_until=proposal.round.valid_until(award.bid_id),
        )
        for award in awards
    }
    outline = RunOutline(run_id=auction.run_id, job_name=str(auction.report["job"]))
    asked = open_requests(outline, demand, account_of(demand), allocations, moves)
    market.ledger.record_auction(auction, list(allocations.values()), asked)
    return allocations
