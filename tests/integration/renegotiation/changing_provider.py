"""This machine under several names, each with a price and a presence that a file says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from cu_market.domain.allocation import Allocation
from cu_market.domain.bid import Bid
from cu_market.domain.profile import ResourcePool
from cu_market.domain.request import ResourceRequest
from cu_market.ral.local.machine import Machine
from cu_market.ral.local.provider import LocalProvider


class ChangingProvider(LocalProvider):
    """Sells at its tariff times a factor; with a factor of null it is not there any more."""

    file: Path

    @classmethod
    def from_config(
        cls, name: str, config: Mapping[str, object], *, machine: Machine | None = None
    ) -> Self:
        left = {key: value for key, value in config.items() if key != "file"}
        provider = super().from_config(name, left, machine=machine)
        provider.file = Path(str(config["file"]))
        return provider

    def _factor(self) -> int | None:
        factor: int | None = json.loads(self.file.read_text())[self.name]
        return factor

    def pool(self) -> ResourcePool:
        return ResourcePool() if self._factor() is None else super().pool()

    def bid(self, requests: Sequence[ResourceRequest], now: datetime) -> Sequence[Bid]:
        factor = self._factor()
        if factor is None:
            return []
        found = []
        for bid in super().bid(requests, now):
            assert bid.rates is not None
            rates = replace(
                bid.rates, core_microusd_per_hour=factor * bid.rates.core_microusd_per_hour
            )
            price = factor * bid.price_microusd_per_hour
            found.append(replace(bid, rates=rates, price_microusd_per_hour=price))
        return found


class WholeProvider(ChangingProvider):
    """The same, sold whole: four CUs, each of what the options say, started within a minute."""

    COUNT = 4

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.capabilities = replace(
            self.capabilities, elastic=False, one_worker=False, grows=False, ahead=False
        )

    def pool(self) -> ResourcePool:
        found = super().pool()
        return replace(
            found, capacities={k: size.times(self.COUNT) for k, size in found.capacities.items()}
        )

    def bid(self, requests: Sequence[ResourceRequest], now: datetime) -> Sequence[Bid]:
        return [
            replace(
                bid,
                rates=None,
                quantity=self.COUNT,
                profile=replace(bid.profile, startup_ms=60_000),
            )
            for bid in super().bid(requests, now)
        ]

    def worker_key(self, allocation: Allocation) -> str:
        return allocation.resource_id
