"""This machine under several names, each with a price and a presence that a file says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Self

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
