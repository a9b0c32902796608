"""The whole of what a provider must keep, to be inherited by its own tests."""

from __future__ import annotations

from cu_market.conformance.adoption import AdoptionConformance
from cu_market.conformance.ahead import AheadConformance
from cu_market.conformance.offers import OffersConformance
from cu_market.conformance.runs import RunsConformance
from cu_market.conformance.workers import WorkersConformance


class ProviderConformance(
    OffersConformance,
    WorkersConformance,
    AheadConformance,
    AdoptionConformance,
    RunsConformance,
):
    """Offers, workers, and runs of a real executor on them; see ProviderUnderTest for what to set.

    What a provider does not declare as a capability is skipped, with that reason.
    """
