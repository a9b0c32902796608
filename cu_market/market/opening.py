"""Opens the market of a Dagster instance: its ledger, its providers, its solver."""

from __future__ import annotations

from cu_market.ledger.location import ledger_url
from cu_market.ledger.sql import SqlLedger, open_ledger
from cu_market.market.auction import Market
from cu_market.market.carriage import check_carriage, find_carrier
from cu_market.market.settings import MarketSettings
from cu_market.market.solver.process import SolverProcess
from cu_market.ral.registry import load_providers


def open_instance_ledger(settings: MarketSettings, dagster_home: str | None) -> SqlLedger:
    """Returns the ledger that the settings name.

    Raises:
        InvalidInputError: neither a URL nor DAGSTER_HOME.
        LedgerError: it cannot be opened.
    """
    return open_ledger(ledger_url(dagster_home, settings.resolved_ledger_url()))


def open_market(settings: MarketSettings, dagster_home: str | None) -> Market:
    """Returns a market. The solver's process starts with its first program.

    Raises:
        InvalidInputError: settings that cannot be used, with every problem.
        LedgerError: the ledger cannot be opened.
    """
    providers = load_providers(settings.providers)
    check_carriage(providers, settings)
    ledger = open_instance_ledger(settings, dagster_home)
    return Market(
        settings=settings,
        providers=providers,
        ledger=ledger,
        solver=SolverProcess(),
        carrier=find_carrier(providers, settings, ledger),
    )


def close_market(market: Market) -> None:
    """Ends the solver's process and the providers' watches, frees the ledger's connections."""
    if isinstance(market.solver, SolverProcess):
        market.solver.close()
    for provider in market.providers.values():
        close = getattr(provider, "close", None)  # one that watches something has it
        if close is not None:
            close()
    market.ledger.close()
