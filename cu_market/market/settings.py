"""The market's configuration: one model, read from dagster.yaml or an executor's config."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from fractions import Fraction
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.domain.spec import Defaults, Mode, OnMarketFailure
from cu_market.domain.tags import nearest_name
from cu_market.domain.units import parse_cores, parse_size, usd_to_microusd
from cu_market.ledger.location import follow
from cu_market.market.accounts.spending import Terms
from cu_market.ral.registry import load_providers


class DefaultSize(BaseModel):
    """What a step is given when nobody has said anything."""

    model_config = ConfigDict(extra="forbid")

    cpu: float | str = 1
    memory: str = "1GiB"
    duration_seconds: float = Field(default=60, gt=0)

    @field_validator("cpu")
    @classmethod
    def _cpu(cls, value: float | str) -> float | str:
        parse_cores(value)
        return value

    @field_validator("memory")
    @classmethod
    def _memory(cls, value: str) -> str:
        parse_size(value)
        return value

    def to_defaults(self) -> Defaults:
        """Returns the same in the domain's integers."""
        return Defaults(
            cpu_millis=parse_cores(self.cpu),
            memory_bytes=parse_size(self.memory),
            duration_ms=round(1000 * self.duration_seconds),
        )


class AccountSettings(BaseModel):
    """One account's share of pools that are too small, and its ceiling."""

    model_config = ConfigDict(extra="forbid")

    weight: float = Field(default=1, gt=0, le=1e6)
    ceiling_usd_per_day: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    def to_terms(self) -> Terms:
        """Returns the same in exact numbers."""
        ceiling = self.ceiling_usd_per_day
        return Terms(
            weight=Fraction(str(self.weight)),
            ceiling_microusd_per_day=None if ceiling is None else usd_to_microusd(ceiling),
        )


class AheadSettings(BaseModel):
    """Whether CUs are started ahead of the runs that are to use them, and within what bounds.

    Attributes:
        enabled: it costs money before there is a run, so somebody has to want it.
        horizon_seconds: how far ahead launches are looked for.
        most: CUs that may stand by at once.
    """

    model_config = ConfigDict(extra="forbid")

    enabled: bool = False
    horizon_seconds: float = Field(default=1800.0, gt=0, le=86_400)
    most: int = Field(default=4, ge=0, le=1000)


class OnBudget(StrEnum):
    """What a step does that would pass its run's budget."""

    WAIT = "wait"
    FAIL = "fail"


class Pricing(StrEnum):
    """What a winner is paid: what it bid, or what its presence is worth to the others."""

    PAY_AS_BID = "pay-as-bid"
    SECOND_PRICE = "second-price"


class MarketSettings(BaseModel):
    """Everything that can be configured. Times are seconds, money dollars.

    Attributes:
        providers: name -> options; ``kind`` names the entry point. None: this machine.
        ledger_url: SQLAlchemy URL; None: beside Dagster's storage, a schema in its PostgreSQL or a
            SQLite file in DAGSTER_HOME. ``{"env": NAME}`` reads the variable when the ledger is
            opened, and so does a value in ``{"postgres_db": ...}`` in Dagster's own keys.
        mode: ``market`` routes; ``recommend`` shows only.
        on_market_failure: what a run does when the market cannot answer.
        defaults: size of a step of which nothing is known.
        value_of_time_usd_per_hour: what an hour of a run's delay costs.
        deadline_confidence: in which share of all cases a plan is to keep a run's deadline; 0.5
            counts on medians.
        bid_deadline_seconds: a provider that has not answered by then is left out.
        solve_seconds: the integer program's limit.
        lease_seconds: a lease not renewed for so long expires.
        min_attempts: good ends of a step before its forecast replaces what was declared.
        share_cus: whether a run's steps share CUs that are sold whole; else each has one to itself.
        renegotiate_seconds: how often a run's awards are reviewed while it goes; 0: never.
        accounts: by name; an account that is not there has weight 1 and no ceiling.
        fair_share_seconds: how far back use counts when accounts share a pool.
        pricing: what winners are paid.
        second_price_seconds: for the plans without each winner; who is left then is paid as bid.
        on_budget: what a step does that would pass cu/budget_usd: wait for more, or fail.
        ahead: whether CUs are started ahead of need, and how many.
    """

    model_config = ConfigDict(extra="forbid")

    providers: dict[str, dict[str, Any]] | None = None
    ledger_url: str | dict[str, Any] | None = None
    mode: Mode = Mode.MARKET
    on_market_failure: OnMarketFailure = OnMarketFailure.NATIVE
    defaults: DefaultSize = Field(default_factory=DefaultSize)
    value_of_time_usd_per_hour: float = Field(default=0.05, ge=0, allow_inf_nan=False)
    deadline_confidence: float = Field(default=0.95, ge=0.5, le=0.99)
    bid_deadline_seconds: float = Field(default=1.0, gt=0, le=60)
    solve_seconds: float = Field(default=1.0, gt=0, le=60)
    lease_seconds: float = Field(default=30.0, ge=5)
    min_attempts: int = Field(default=1, ge=1)
    share_cus: bool = True
    renegotiate_seconds: float = Field(default=5.0, ge=0, le=3600)
    accounts: dict[str, AccountSettings] = Field(default_factory=dict)
    fair_share_seconds: float = Field(default=600.0, gt=0, le=86_400)
    pricing: Pricing = Pricing.PAY_AS_BID
    second_price_seconds: float = Field(default=1.0, gt=0, le=60)
    on_budget: OnBudget = OnBudget.WAIT
    ahead: AheadSettings = Field(default_factory=AheadSettings)

    @property
    def value_of_time_microusd_per_hour(self) -> int:
        """Micro-dollars an hour."""
        return usd_to_microusd(self.value_of_time_usd_per_hour)

    @property
    def shares_cus(self) -> bool:
        """Whether CUs are shared: none is at second prices, those of one step's absence."""
        return self.share_cus and self.pricing is Pricing.PAY_AS_BID

    @property
    def deadline_confidence_permille(self) -> int:
        """The same in thousandths."""
        return round(1000 * self.deadline_confidence)

    def account_terms(self) -> dict[str, Terms]:
        """Returns every configured account's terms by name."""
        return {name: account.to_terms() for name, account in self.accounts.items()}

    def resolved_ledger_url(self) -> str | None:
        """Returns the URL with a reference to the environment followed.

        Raises:
            InvalidInputError: the variable is not set.
        """
        if self.ledger_url is None:
            return None
        return follow(self.ledger_url, "market settings: ledger_url")


def parse_settings(config: Mapping[str, Any] | None, where: str) -> MarketSettings:
    """Returns settings read from configuration.

    Args:
        config: as written; None means all defaults.
        where: the place, for messages: ``dagster.yaml: run_launcher.config.market``.

    Raises:
        InvalidInputError: with every problem.
    """
    try:
        return MarketSettings.model_validate(dict(config or {}))
    except ValidationError as error:
        problems = [_problem_of(detail, where) for detail in error.errors()]
        try:
            load_providers((config or {}).get("providers"))
        except InvalidInputError as others:
            problems += others.problems  # said now, rather than once the settings are mended
        raise InvalidInputError(problems) from error


def _problem_of(detail: ErrorDetails, where: str) -> Problem:
    """Returns one of pydantic's findings in the words that all problems have."""
    *outer, name = (str(part) for part in detail["loc"])
    place = ".".join([where, *outer, name])
    remedy = "docs/configuration.md has its values"
    what = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        known = [] if outer else list(MarketSettings.model_fields)
        near = nearest_name(name, known)
        what = "no such setting"
        remedy = f"did you mean {near}?" if near else "docs/configuration.md lists them"
    return Problem(where=place, value=str(detail["input"]), what=what, remedy=remedy)
