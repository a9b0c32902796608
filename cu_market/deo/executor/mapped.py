"""Mapped steps on CUs that are sold whole: auctioned together once it is known how many there are.

At a run's auction a step that is mapped stands for any number, so it is awarded a CU of its own, as
each of them would be. Once they are known, they are steps like others, and may share.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator

from dagster import DagsterEvent

from cu_market.dagster_compat.events import EngineEventData
from cu_market.deo.executor.state import RunState
from cu_market.domain.outline import template_key
from cu_market.domain.problem import CUMarketError
from cu_market.market.renting.shared import is_shareable

logger = logging.getLogger(__name__)

LEAST = 2
"""Mapped steps that are auctioned together."""


class Mapped:
    """Auctions a run's mapped steps together.

    Args:
        run: the run in progress.
    """

    def __init__(self, run: RunState) -> None:
        self._run = run
        self._seen: set[str] = set()

    def share(self) -> Iterator[DagsterEvent]:
        """Auctions what has been mapped from one step since the last time, where it could share
        CUs: one auction a turn, since leases are renewed between turns; each step once."""
        negotiation = self._run.negotiation
        groups: dict[str, list[str]] = defaultdict(list)
        for step_key in self._run.active.executable_keys():
            template = template_key(step_key)
            if template != step_key and step_key not in self._seen:
                groups[template].append(step_key)
        for template, keys in groups.items():
            self._seen.update(keys)
            if len(keys) < LEAST or not self._may_share(template):
                continue
            try:
                negotiation.award_anew(keys)
            except CUMarketError:
                logger.exception("mapped steps stay as awarded", extra={"action": "share"})
                return
            names = sorted({negotiation.award(key).resource_id for key in keys})
            said = (
                f"{len(keys)} steps of {template} are known now, and auctioned together: they run"
            )
            yield DagsterEvent.engine_event(
                self._run.context, f"{said} on {', '.join(names)}.", EngineEventData()
            )
            return

    def _may_share(self, template: str) -> bool:
        market = self._run.negotiation.market
        award = self._run.negotiation.award(template)
        capabilities = market.providers[award.provider].capabilities
        is_whole = not capabilities.elastic and is_shareable(capabilities)
        return is_whole and market.settings.shares_cus
