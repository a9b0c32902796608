"""The terms at which providers sell any size, as configurations write them, read into integers."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cu_market.domain.bid import Rates
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import (
    MICROUSD,
    parse_cores,
    parse_decimal,
    parse_size,
    usd_to_microusd,
)
from cu_market.ral.options import reading, refuse

_MAX_USD_PER_HOUR = 1_000_000
_AN_HOUR = "write dollars an hour, such as 0.048"
_A_SECOND = "write dollars a second, such as 0.0000114"


def _price(value: object) -> int:
    price = usd_to_microusd(value)
    if not 0 <= price <= _MAX_USD_PER_HOUR * MICROUSD:
        raise ValueError(f"not between 0 and {_MAX_USD_PER_HOUR} dollars an hour")
    return price


def _price_of_second(value: object) -> int:
    return _price(parse_decimal(value) * 3600)


Usd = Annotated[int, BeforeValidator(reading(_price, _AN_HOUR))]
"""Dollars an hour, read into micro-dollars."""

UsdOfSecond = Annotated[int, BeforeValidator(reading(_price_of_second, _A_SECOND))]
"""Dollars a second, read into micro-dollars an hour."""

read_cores = reading(parse_cores, "write cores as 2 or 0.5, or 500m")
read_bytes = reading(parse_size, "write 8GiB or 8GB")

Cores = Annotated[int, BeforeValidator(read_cores)]
"""Cores, read into milli-cores."""

Bytes = Annotated[int, BeforeValidator(read_bytes)]


class SizeClass(BaseModel):
    """One size that is sold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: Cores
    memory: Bytes

    def size(self) -> ResourceVector:
        """Returns the same as a record."""
        return ResourceVector(cpu_millis=self.cpu, memory_bytes=self.memory)


class ElasticTerms(BaseModel):
    """Prices of a core and of a GB, and what else they go by.

    Attributes:
        core_usd_per_hour, gb_usd_per_hour: one of the two ways of writing each price.
        core_usd_per_second, gb_usd_per_second: the other one.
        congestion: how much dearer when all is in use: 0.5 is half again.
        minimum_seconds: billed at least.
        size_classes: what is sold, if not any size; from small to large.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    core_usd_per_hour: Usd | None = None
    gb_usd_per_hour: Usd | None = None
    core_usd_per_second: UsdOfSecond | None = None
    gb_usd_per_second: UsdOfSecond | None = None
    congestion: float = Field(default=0, ge=0, le=1000)
    minimum_seconds: float = Field(default=0, ge=0, le=86_400)
    size_classes: tuple[SizeClass, ...] = ()

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        for what in ("core", "gb"):
            hour, second = (getattr(self, f"{what}_usd_per_{unit}") for unit in ("hour", "second"))
            if (hour is None) == (second is None):
                said = "missing" if hour is None else "written both by the hour and by the second"
                raise refuse(
                    f"{what} price {said}", f"write {what}_usd_per_hour or {what}_usd_per_second"
                )
        sizes = self.classes
        if not all(size.fits_in(sizes[-1]) for size in sizes):
            raise refuse("the last size class does not hold all others", "list small to large")
        return self

    @property
    def congestion_permille(self) -> int:
        """How much dearer when all is in use, in thousandths."""
        return round(1000 * self.congestion)

    @property
    def classes(self) -> tuple[ResourceVector, ...]:
        """The sizes that are sold, if not any."""
        return tuple(each.size() for each in self.size_classes)

    def rates(self, gpu_microusd_per_hour: int = 0) -> Rates:
        """Returns the prices where nothing is in use."""
        return Rates(
            core_microusd_per_hour=_either(self.core_usd_per_hour, self.core_usd_per_second),
            gb_microusd_per_hour=_either(self.gb_usd_per_hour, self.gb_usd_per_second),
            gpu_microusd_per_hour=gpu_microusd_per_hour,
            minimum_ms=round(1000 * self.minimum_seconds),
            classes=self.classes,
        )


def _either(first: int | None, second: int | None) -> int:
    """Returns the one that is there: the model sees to it that one is."""
    return first if first is not None else second or 0
