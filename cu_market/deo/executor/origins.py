"""Where each step of a run has left what it wrote: on the CU on which it last ran."""

from __future__ import annotations

import logging
from dataclasses import replace

from cu_market.domain.allocation import Allocation
from cu_market.domain.inputs import Place
from cu_market.domain.outline import StepOutline, template_key
from cu_market.domain.rental import offered_name
from cu_market.market.auction import Market

logger = logging.getLogger(__name__)


class Origins:
    """The places of a run's outputs.

    Args:
        market: whose providers say where their CUs are.
    """

    def __init__(self, market: Market) -> None:
        self._market = market
        self._leases: dict[str, Allocation] = {}
        self._known: dict[tuple[str, str], Place | None] = {}

    def note(self, lease: Allocation) -> None:
        """Takes where a step runs. Of steps that are mapped from one, the newest stands for all."""
        for key in {lease.step_key, template_key(lease.step_key)}:
            before = self._leases.get(key)
            if before is None or lease.fencing_token > before.fencing_token:
                self._leases[key] = lease

    def placed(self, step: StepOutline) -> StepOutline:
        """Returns a step with where each of its inputs lies, as far as that is known."""
        inputs = tuple(replace(data, place=self._place(data.source)) for data in step.inputs)
        return replace(step, inputs=inputs)

    def _place(self, source: str) -> Place | None:
        lease = self._leases.get(source)
        if lease is None:
            return None
        key = (lease.provider, lease.resource_id)
        if key not in self._known:
            provider = self._market.providers.get(lease.provider)
            if provider is None:  # of an earlier run worker, configured no more
                return None
            try:
                profiles = provider.pool().profiles
            except Exception:  # away, or at fault: asked again the next time
                logger.warning("provider is silent", extra={"action": "place"}, exc_info=True)
                return None
            places = {profile.cu_id: profile.place for profile in profiles}
            self._known[key] = places.get(offered_name(lease.resource_id))
        return self._known[key]
