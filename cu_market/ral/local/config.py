"""What may be written about the local provider in a configuration, read into integers.

Every value is checked, also against the machine, before anything is refused: all problems are
reported together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import ErrorDetails

from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.domain.units import (
    GIB,
    format_bytes,
    millis_to_cores,
)
from cu_market.ral.local.machine import Machine, default_reserve_bytes
from cu_market.ral.local.tariff import DEFAULT_TARIFFS, Tariff
from cu_market.ral.options import problem_of, refuse
from cu_market.ral.terms import ElasticTerms, SizeClass, read_bytes, read_cores

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


def _cores(value: object, info: ValidationInfo) -> int:
    """Returns milli-cores, at most the machine's."""
    cpu_millis = read_cores(value)
    machine = _machine(info)
    if cpu_millis > machine.cpu_millis:
        has = millis_to_cores(machine.cpu_millis)
        raise refuse(
            f"more than the {has} cores that this machine has (by {machine.cpu_source})",
            f"write at most {has}, or leave it out",
        )
    return cpu_millis


def _memory(value: object, info: ValidationInfo) -> int:
    """Returns bytes, at most the machine's."""
    memory_bytes = read_bytes(value)
    _check_memory(memory_bytes, info)
    return memory_bytes


def _reserve(value: object, info: ValidationInfo) -> int:
    """Returns bytes, less than the machine's; none at all is allowed."""
    if str(value).strip() == "0":
        return 0
    return _memory(value, info)


def _check_memory(memory_bytes: int, info: ValidationInfo) -> None:
    """Raises when it is more than the machine has."""
    machine = _machine(info)
    if memory_bytes > machine.memory_bytes:
        has = format_bytes(machine.memory_bytes)
        raise refuse(
            f"more than the {has} that this machine has (by {machine.memory_source})",
            f"write at most {machine.memory_bytes * 10 // GIB / 10}GiB, or leave it out",
        )


def _niceness(value: object) -> int:
    """Returns 0 to 19: only root may go below 0, and a step must not outrank its market."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 19:
        raise refuse("not a whole number from 0 to 19", "write 0 (normal) to 19 (lowest)")
    return value


def _name(value: object) -> str:
    """Returns a name that can stand in a cu_id."""
    if not isinstance(value, str) or not _NAME.match(value):
        raise refuse(
            "not a name of letters, digits, '.', '_' and '-'", "write a name such as standard"
        )
    return value


def _location(value: object) -> str:
    """Returns a place's name."""
    if not isinstance(value, str) or not value.strip():
        raise refuse("not a name", "write a place such as 'this machine'")
    return value.strip()


def _machine(info: ValidationInfo) -> Machine:
    """Returns the machine that read_config put into the context."""
    context: dict[str, Machine] = info.context or {}
    return context["machine"]


class TariffConfig(ElasticTerms):
    """One tariff as written: a name, its terms, and a CPU priority.

    Attributes:
        spot: its steps give way to those of other tariffs.
        interruptions_per_hour: expected; 1 for spot unless said otherwise.
    """

    name: Annotated[str, BeforeValidator(_name)]
    niceness: Annotated[int, BeforeValidator(_niceness)] = 0
    spot: bool = False
    interruptions_per_hour: float | None = Field(default=None, ge=0, le=3600)

    def tariff(self) -> Tariff:
        """Returns the same as a record."""
        expected = self.interruptions_per_hour
        if expected is None:
            expected = 1 if self.spot else 0
        return Tariff(
            name=self.name,
            prices=self.rates(),
            niceness=self.niceness,
            is_spot=self.spot,
            interruption_millis_per_hour=round(1000 * expected),
            congestion_permille=self.congestion_permille,
        )


class LocalConfig(BaseModel):
    """The local provider's options; every one has a default.

    Attributes:
        cores: milli-cores to sell, where fewer than the machine has.
        memory: bytes to sell, where less than the machine has after the reserve.
        memory_reserve: bytes kept back for the control plane, or None for the default.
        tariffs: at least one, each with its own name.
        location: name of the place; steps with host-local data stay in one.
        egress_usd_per_gb: dollars for a GB taken from there to another location.
        network_mbps: bandwidth to other locations; 0 where unknown.
        offer_valid_seconds: an offer ends so long after it was made; None: never.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cores: Annotated[int | None, BeforeValidator(_cores)] = None
    memory: Annotated[int | None, BeforeValidator(_memory)] = None
    memory_reserve: Annotated[int | None, BeforeValidator(_reserve)] = None
    tariffs: tuple[TariffConfig, ...] = tuple(
        TariffConfig.model_construct(
            name=tariff.name,
            core_usd_per_hour=tariff.prices.core_microusd_per_hour,
            gb_usd_per_hour=tariff.prices.gb_microusd_per_hour,
            niceness=tariff.niceness,
        )
        for tariff in DEFAULT_TARIFFS
    )
    location: Annotated[str, BeforeValidator(_location)] = "this machine"
    egress_usd_per_gb: float = Field(default=0, ge=0, le=1000)
    network_mbps: int = Field(default=0, ge=0)
    offer_valid_seconds: float | None = Field(default=None, gt=0, le=86_400)


def read_config(name: str, config: Mapping[str, object], machine: Machine) -> LocalConfig:
    """Returns the checked configuration of the provider of that name.

    Raises:
        InvalidInputError: every problem in it.
    """
    where = f"provider {name!r}"
    options = {key: value for key, value in config.items() if value is not None}
    problems = _tariff_problems(where, options.get("tariffs"))
    try:
        read = LocalConfig.model_validate(options, context={"machine": machine})
    except ValidationError as error:
        raise InvalidInputError(
            [*(_problem(where, e) for e in error.errors()), *problems]
        ) from error
    problems += _memory_problems(where, read, machine)
    if problems:
        raise InvalidInputError(problems)
    return read


def memory_reserve_bytes(config: LocalConfig, machine: Machine) -> int:
    """Returns bytes kept back for the control plane: as written, else the default."""
    if config.memory_reserve is not None:
        return config.memory_reserve
    return default_reserve_bytes(machine.memory_bytes)


def _tariff_problems(where: str, tariffs: object) -> list[Problem]:
    """Returns what is wrong with the tariffs as a list: none at all, or two of one name."""
    if not isinstance(tariffs, Sequence) or isinstance(tariffs, str):
        return []  # absent, or not a list, which the model says
    if not tariffs:
        remedy = "write at least one tariff, or leave it out"
        return [Problem(where=f"{where}: tariffs", value="[]", what="empty", remedy=remedy)]
    names = [tariff.get("name") for tariff in tariffs if isinstance(tariff, Mapping)]
    return [
        Problem(
            where=f"{where}: tariffs",
            value=name,
            what="two tariffs with one name",
            remedy="give each tariff its own name",
        )
        for name in dict.fromkeys(n for n in names if isinstance(n, str) and names.count(n) > 1)
    ]


def _memory_problems(where: str, config: LocalConfig, machine: Machine) -> list[Problem]:
    """Returns what is wrong with memory and reserve together: more than the machine has."""
    reserve = memory_reserve_bytes(config, machine)
    left = machine.memory_bytes - reserve
    if left <= 0:
        field, value = "memory_reserve", reserve
        what = f"leaves nothing of the {format_bytes(machine.memory_bytes)} that this machine has"
        remedy = "write a smaller reserve, or leave it out"
    elif config.memory is not None and config.memory > left:
        field, value = "memory", config.memory
        what = (
            f"more than the {format_bytes(left)} left of {format_bytes(machine.memory_bytes)} "
            f"after the reserve of {format_bytes(reserve)}"
        )
        remedy = f"write at most {left} (bytes), or a smaller memory_reserve"
    else:
        return []
    return [Problem(where=f"{where}: {field}", value=str(value), what=what, remedy=remedy)]


_TARIFF = "write {name: ..., core_usd_per_hour: ..., gb_usd_per_hour: ..., niceness: ...}"
_NESTED: dict[str, type[BaseModel]] = {"tariffs": TariffConfig, "size_classes": SizeClass}
_EXPECTED = {"tariffs": f"write a list, each item as {_TARIFF.removeprefix('write ')}"}


def _problem(where: str, error: ErrorDetails) -> Problem:
    return problem_of(where, error, LocalConfig, _NESTED, remedies=_EXPECTED, otherwise=_TARIFF)
