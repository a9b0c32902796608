"""The provider under test, from its configuration, and what is asked of it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from cu_market.conformance.told_worker import PROGRAM
from cu_market.deo.channel.carrier import DatabaseCarrier
from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.bid import Bid
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import MIB
from cu_market.ledger.location import Reference, follow
from cu_market.ledger.sql import open_ledger
from cu_market.ral.carrier import Carrier
from cu_market.ral.provider import Provider, WorkerLaunch
from cu_market.ral.registry import load_providers

NOW = datetime(2025, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """A provider as market settings write it.

    Attributes:
        name: what it is called.
        options: ``{"kind": "module:Class", ...}``, as below ``providers: <name>:``.
        ledger: ``ledger_url`` of a provider whose workers are reached through the ledger's
            database; the suite's runs are kept there. None: each test has a file of its own.
    """

    name: str = "tested"
    options: Mapping[str, object] = field(default_factory=dict)
    ledger: Reference | None = None

    def settings(self) -> dict[str, dict[str, object]]:
        """Returns the ``providers`` of market settings."""
        return {self.name: dict(self.options)}


class ProviderUnderTest:
    """Gives the fixtures. Inherit ProviderConformance, and say what is to be tested:

    .. code-block:: python

        class TestMine(ProviderConformance):
            configured = Configured(name="mine", options={"kind": "my_package:MyProvider"})

    Attributes:
        configured: what is tested.
        small: a step that it surely has room for.
    """

    configured: Configured = Configured(options={"kind": "local"})
    small: ResourceVector = ResourceVector(cpu_millis=100, memory_bytes=64 * MIB)

    @pytest.fixture
    def provider(self) -> Provider:
        """The provider."""
        return self.load()

    def load(self) -> Provider:
        """Returns the provider, loaded anew as the market loads it."""
        (loaded,) = load_providers(self.configured.settings())
        return loaded

    @pytest.fixture
    def starting(self, provider: Provider) -> Provider:
        """The provider, if it can start anything."""
        if provider.capabilities.quotes_only:
            pytest.skip("declares quotes_only: it starts nothing")
        return provider

    def request_for(self, size: ResourceVector) -> ResourceRequest:
        """Returns what a step of this size asks for."""
        return ResourceRequest(request_id="step", timestamp=NOW, duration_ms=1000, needs=size)

    def lease_of(self, bid: Bid, run_id: str | None = None) -> Allocation:
        """Returns a lease of the small step under a bid."""
        return Allocation(
            run_id=run_id or str(uuid.uuid4()),
            step_key="step",
            attempt=1,
            state=AllocationState.LEASED,
            auction_id="auction",
            bid_id=bid.bid_id,
            provider=bid.provider,
            resource_id=bid.profile.cu_id,
            capacity_id=bid.profile.capacity_id,
            size=bid.size_for(self.small),
            price_microusd_per_hour=bid.price_for(self.small),
            expected_ms=1000,
            awarded_at=NOW,
        )

    def launch_on(
        self,
        provider: Provider,
        *,
        starter: str,
        run_id: str | None = None,
        environment: Mapping[str, str] | None = None,
        working_directory: str | None = None,
        log_path: str | None = None,
    ) -> WorkerLaunch:
        """Returns the launch of a worker that does as it is told, on the provider's first bid."""
        lease = self.lease_of(provider.bid([self.request_for(self.small)], NOW)[0], run_id)
        return WorkerLaunch(
            run_id=lease.run_id,
            worker_key=provider.worker_key(lease),
            arguments=("-c", PROGRAM),
            environment=environment or {},
            working_directory=working_directory,
            log_path=log_path,
            allocation=lease,
            starter=starter,
            carrier=self.carrier_of(provider),
        )

    def carrier_of(self, provider: Provider) -> Carrier | None:
        """Returns who carries to the provider's workers, where it needs that."""
        if not provider.capabilities.carried:
            return None
        if self.configured.ledger is None:
            pytest.fail("its workers are reached through the ledger: say Configured(ledger=...)")
        reference = self.configured.ledger
        channels = open_ledger(follow(reference, "Configured.ledger")).channels
        return DatabaseCarrier(channels, reference)
