"""``mode: recommend``: what a run is told of what would have been bought and saved.

Nothing of a run is changed by it: no award, no lease, no tag, no failure. Whatever the market would
have refused, the run page tells; the run goes on as without a market.
"""

from __future__ import annotations

from collections.abc import Mapping

from dagster import MetadataValue

from cu_market.dagster_compat.events import EngineEventData
from cu_market.deo.announcements import auction_event
from cu_market.domain.auction import Auction
from cu_market.domain.problem import CUMarketError
from cu_market.domain.spec import Mode
from cu_market.domain.units import MICROUSD, format_usd
from cu_market.market.comparison import expected_saving

HEAD = "Recommendation only, nothing is bought or changed."


def is_recommending(mode: Mode, tags: Mapping[str, str]) -> bool:
    """Whether a run is only to be told: by its own tag, else by the settings."""
    return tags.get("cu/mode", str(mode)).strip().lower() == Mode.RECOMMEND


def recommendation_event(auction: Auction) -> tuple[str, EngineEventData]:
    """Returns the sentence and the tables of an auction that bought nothing."""
    sentence, data = auction_event(auction)
    saving = expected_saving(auction.report)
    if saving is None:
        return f"{HEAD} {sentence}", data
    static = saving.static
    metadata = {
        **data.metadata,
        "cu/would_cost_usd": MetadataValue.float(saving.cost_microusd / MICROUSD),
        "cu/would_save_usd": MetadataValue.float(saving.saved_microusd / MICROUSD),
    }
    saved = "saves" if saving.saved_microusd >= 0 else "costs more by"
    compared = (
        f"Buying its steps would cost {format_usd(saving.cost_microusd)}, which {saved} "
        f"{format_usd(abs(saving.saved_microusd))} against {static.resource_id} kept for its "
        f"{static.wall_us / 10**6:.1f} s ({format_usd(static.cost_microusd)})."
    )
    return f"{HEAD} {compared} {sentence}", EngineEventData(metadata=metadata)


def would_be_refused(error: CUMarketError) -> str:
    """Returns what a run is told that the market would have refused or could not have served."""
    return f"{HEAD} With mode market this run would have been refused: {error}"
