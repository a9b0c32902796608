"""A Dagster home's market as a command sees it: settings, ledger, providers. No solver."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cu_market.cli.exits import NothingFoundError

if TYPE_CHECKING:
    from cu_market.ledger.interface import Ledger
    from cu_market.market.settings import MarketSettings
    from cu_market.ral.provider import Provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What a home's market is made of.

    Attributes:
        home: DAGSTER_HOME.
        settings: the market's, from dagster.yaml.
        ledger: open.
    """

    home: Path
    settings: MarketSettings
    ledger: Ledger

    def providers(self) -> Sequence[Provider]:
        """Returns the configured providers.

        Raises:
            InvalidInputError: every problem in their configuration.
        """
        from cu_market.ral.registry import load_providers

        return load_providers(self.settings.providers)


@contextmanager
def open_deployment(home: Path) -> Iterator[Deployment]:
    """Yields a home's market; closes the ledger afterwards.

    Raises:
        InvalidInputError: settings that cannot be used.
        LedgerError: the ledger cannot be opened.
    """
    from cu_market.ledger.location import ledger_url
    from cu_market.ledger.sql import open_ledger

    settings = read_settings(home)
    with open_ledger(ledger_url(str(home), settings.resolved_ledger_url())) as ledger:
        yield Deployment(home=home, settings=settings, ledger=ledger)


def read_settings(home: Path) -> MarketSettings:
    """Returns the market's settings in a home's dagster.yaml; defaults where it has none.

    Raises:
        InvalidInputError: with every problem.
    """
    from cu_market.market.settings import MarketSettings

    path = home / "dagster.yaml"
    if not path.is_file():
        return MarketSettings()
    from dagster import DagsterInstance

    from cu_market.cli.dagster_yaml import check_dagster_yaml
    from cu_market.deo.settings import instance_settings

    check_dagster_yaml(path)
    with DagsterInstance.from_config(str(home)) as instance:
        return instance_settings(instance)


def find_run(ledger: Ledger, said: str) -> str:
    """Returns the id of the run that was meant: ``last``, an id, or the beginning of one.

    Raises:
        NothingFoundError: none, or several.
    """
    runs = list(dict.fromkeys(auction.run_id for auction in ledger.auctions(limit=10_000)))
    if said == "last" and runs:
        return runs[0]
    if said in runs:
        return said
    found = [run_id for run_id in runs if run_id.startswith(said)]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(sorted(found)[:5])
        raise NothingFoundError(f"run {said!r} may be any of {listed}: write more of it")
    known = ", ".join(run_id[:8] for run_id in runs[:5]) or "none yet"
    raise NothingFoundError(
        f"run {said!r}: the ledger has no auction of it; the newest are {known}; "
        "`cu-market ledger` lists them"
    )
