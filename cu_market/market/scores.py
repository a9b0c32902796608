"""The performance scores that bids are lowered to: what the ledger has seen each CU deliver."""

from __future__ import annotations

from collections import defaultdict

from cu_market.domain.usage import Ending
from cu_market.ledger.interface import Ledger
from cu_market.pse.performance import score_millis

RECENT = 500
"""Attempts, of all CUs together, whose endings tell how promises are kept."""


def measured_scores(ledger: Ledger) -> dict[str, int]:
    """Returns each CU's score in thousandths by cu_id; those never measured are left out.

    Only a lost attempt is a promise broken: what was preempted was sold as such, and what its user
    interrupted says nothing.
    """
    kept: dict[str, list[bool]] = defaultdict(list)
    for usage in ledger.usages(limit=RECENT):
        if usage.ending not in (Ending.PREEMPTED, Ending.INTERRUPTED):
            kept[usage.resource_id].append(usage.ending is not Ending.LOST)
    delivered = ledger.delivered()
    return {
        cu_id: score_millis(delivered.get(cu_id, ()), kept.get(cu_id, ()))
        for cu_id in sorted({*kept, *delivered})
    }
