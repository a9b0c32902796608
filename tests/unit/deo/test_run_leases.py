"""A run's leases: what was taken back before it had begun is no failure of the run."""

from __future__ import annotations

from datetime import timedelta

import pytest
from ledger_rows import ONE_CU, T0, an_award

from cu_market.deo.executor.leases import Leases
from cu_market.domain.allocation import Allocation
from cu_market.ledger.errors import LeaseLostError
from cu_market.ledger.memory import InMemoryLedger
from cu_market.market.accounts.purse import Purse
from cu_market.market.auction import Market
from cu_market.market.settings import MarketSettings


@pytest.fixture
def ledger() -> InMemoryLedger:
    return InMemoryLedger()


@pytest.fixture
def leases(ledger: InMemoryLedger) -> Leases:
    market = Market(settings=MarketSettings(), ledger=ledger, providers=[], now=lambda: T0)
    return Leases(market, "run", Purse(market=market, run_id="run"))


@pytest.fixture
def lease(ledger: InMemoryLedger) -> Allocation:
    expires_at = T0 + timedelta(hours=1)
    given = ledger.lease(an_award("run", "step"), capacity=ONE_CU, expires_at=expires_at, now=T0)
    assert isinstance(given, Allocation)
    return given


def test_a_lease_taken_back_before_its_step_began_is_accepted_as_gone(
    leases: Leases, ledger: InMemoryLedger, lease: Allocation
) -> None:
    ledger.revoke_leases([lease.key], now=T0)
    leases.accept(lease)
    assert leases.revoked_tokens() == {lease.fencing_token}
    assert ledger.allocation(lease.key) is not None


def test_a_lease_lost_in_any_other_way_is_an_error(
    leases: Leases, ledger: InMemoryLedger, lease: Allocation
) -> None:
    ledger.expire(now=T0 + timedelta(hours=2))
    with pytest.raises(LeaseLostError):
        leases.accept(lease)
