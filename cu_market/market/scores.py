"""The performance scores that bids are lowered to: what the ledger has seen each CU deliver."""

from __future__ import annotations

from collections import defaultdict

from cu_market.domain.rental import offered_name
from cu_market.domain.usage import Ending
from cu_market.ledger.interface import Ledger
from cu_market.pse.performance import score_millis

RECENT = 500
"""Attempts, of all CUs together, whose endings tell how promises are kept."""


def measured_scores(ledger: Ledger) -> dict[str, int]:
    """Returns each CU's score in thousandths by cu_id; those never measured are left out.

    A promise broken is a lost attempt, and a lease under which nothing was started: what was
    preempted was sold as such, and what its user interrupted says nothing.
    """
    endings = [
        (usage.ended_at, usage.resource_id, usage.ending is not Ending.LOST)
        for usage in ledger.usages(limit=RECENT)
        if usage.ending not in (Ending.PREEMPTED, Ending.INTERRUPTED)
    ]
    endings += [
        (lease.unstarted_at, offered_name(lease.resource_id), False)
        for lease in ledger.unstarted(limit=RECENT)
        if lease.unstarted_at is not None
    ]
    kept: dict[str, list[bool]] = defaultdict(list)
    for _, cu_id, is_kept in sorted(endings, reverse=True)[:RECENT]:
        kept[cu_id].append(is_kept)
    delivered = ledger.delivered()
    return {
        cu_id: score_millis(delivered.get(cu_id, ()), kept.get(cu_id, ()))
        for cu_id in sorted({*kept, *delivered})
    }
