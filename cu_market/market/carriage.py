"""Who carries to workers that their providers cannot reach: the ledger's database, if it can."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.ledger.interface import Ledger
from cu_market.ledger.location import Reference, parse_url, secrets_in, shown
from cu_market.market.settings import MarketSettings
from cu_market.ral.provider import Provider

if TYPE_CHECKING:
    from cu_market.ral.carrier import Carrier


def check_carriage(providers: Sequence[Provider], settings: MarketSettings) -> None:
    """Raises InvalidInputError where a provider's workers are to be reached through a database that
    they cannot reach, or of which they cannot be told without telling a secret."""
    problems = list(_problems(providers, settings))
    if problems:
        raise InvalidInputError(problems)


def find_carrier(
    providers: Sequence[Provider], settings: MarketSettings, ledger: Ledger
) -> Carrier | None:
    """Returns the ledger's carrier where a provider needs one, else None."""
    if not _carried(providers):
        return None
    from cu_market.deo.channel.carrier import DatabaseCarrier

    return DatabaseCarrier(ledger.channels, _reference(settings))


def _carried(providers: Sequence[Provider]) -> list[str]:
    return [provider.name for provider in providers if provider.capabilities.carried]


def _reference(settings: MarketSettings) -> Reference:
    return settings.ledger_url or ""


def _problems(providers: Sequence[Provider], settings: MarketSettings) -> Iterator[Problem]:
    names = _carried(providers)
    if not names:
        return
    said = settings.resolved_ledger_url()
    url = parse_url(said) if said else None
    if url is None or url.get_backend_name() == "sqlite":
        kept = f"the ledger is a file ({shown(url)})" if url else "the ledger is a SQLite file"
        what = f"{kept}, which no worker elsewhere can open"
        remedy = "keep Dagster's storage, or ledger_url, in PostgreSQL; or write channel: exec"
    else:
        written = ", ".join(secrets_in(_reference(settings)))
        if not written:
            return
        what = (
            f"workers are told where the ledger is by reference, but its {written} is written out"
        )
        remedy = (
            "write {env: NAME} for it in dagster.yaml, and give NAME to the workers (the code "
            "location's or launcher's env_secrets or env_vars); or write channel: exec"
        )
    for name in names:
        yield Problem(
            where=f"provider {name!r}: channel", value="database", what=what, remedy=remedy
        )
