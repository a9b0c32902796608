"""An account's ceiling counts its leases and what was bought ahead for it, whatever the ledger."""

from __future__ import annotations

from datetime import timedelta

import pytest
from contract_rows import ROOM_FOR_TWO, T0, auction, award, lease
from test_ledger_purchases import bought

from cu_market.domain.resources import ResourceVector
from cu_market.domain.tender import Tender
from cu_market.ledger.interface import Ledger
from cu_market.market.accounts.ceilings import left_by_account, spent_by_account
from cu_market.market.accounts.purse import Purse
from cu_market.market.auction import Market
from cu_market.market.settings import AccountSettings, MarketSettings

DAY = timedelta(days=1)
CENT = 10_000
"""What a CU that is bought ahead costs in ten seconds."""
TEN = timedelta(seconds=10)
SMALL = ResourceVector(cpu_millis=1)


def purse(ledger: Ledger, ceiling_usd: float, account: str = "lab") -> Purse:
    settings = MarketSettings(accounts={account: AccountSettings(ceiling_usd_per_day=ceiling_usd)})
    market = Market(settings=settings, ledger=ledger, providers=[], now=lambda: T0 + TEN)
    return Purse(market=market, run_id="run", account=account)


@pytest.fixture
def spent(ledger: Ledger) -> Ledger:
    """Ten seconds after T0: one stands, one was taken, one was let go, one is another account's."""
    for name, account in (("p", "lab"), ("q", "lab"), ("r", "lab"), ("s", "other")):
        bought(ledger, name, account=account, size=SMALL)
    ledger.take_purchase("q", run_id="run", now=T0 + TEN / 2)
    ledger.let_go("r", outcome="nobody came", now=T0 + TEN)
    ledger.let_go("s", outcome="nobody came", now=T0 + TEN)
    return ledger


def test_what_was_bought_ahead_is_spent_until_now(spent: Ledger) -> None:
    assert spent_by_account(spent, T0 + TEN) == {"lab": 3 * CENT, "other": CENT}
    assert spent_by_account(spent, T0 + 2 * TEN)["lab"] == 5 * CENT
    later = spent_by_account(spent, T0 + TEN + DAY)
    assert "other" not in later
    assert later["lab"] == 2 * round(CENT * (DAY + TEN) / TEN)  # what still stands after a day


def test_leases_and_purchases_of_an_account_are_one_sum(spent: Ledger) -> None:
    lease(spent, award("a", holder="a worker of its own"))
    assert spent_by_account(spent, T0 + TEN, account_of={"run": "lab"})["lab"] == 4 * CENT
    spent.note_tender(
        Tender(run_id="run", account="other", capacity_id="", size=SMALL, noted_at=T0)
    )
    assert spent_by_account(spent, T0 + TEN) == {"lab": 3 * CENT, "other": 2 * CENT}


def test_a_step_is_refused_by_what_was_bought_ahead(spent: Ledger) -> None:
    wanted = award("a", price_microusd_per_hour=3_600_000, expected_ms=10_000)
    assert purse(spent, 0.04).objection(wanted, ROOM_FOR_TWO) is None
    refused = purse(spent, 0.039).objection(wanted, ROOM_FOR_TWO)
    assert refused is not None
    assert refused.is_for_money
    assert refused.reason.startswith(
        "the ceiling of account 'lab' for 24 hours is $0.039000: $0.030000 is spent or promised"
    )
    assert "accounts.lab.ceiling_usd_per_day" in refused.reason
    assert purse(spent, 0.02, "other").objection(wanted, ROOM_FOR_TWO) is None


def test_a_budget_counts_the_egress_of_each_step_once(ledger: Ledger) -> None:
    # A step costs a cent for its ten seconds, and its inputs two cents to be brought there.
    terms = {"price_microusd_per_hour": 3_600_000, "expected_ms": 10_000, "egress_microusd": 20_000}
    market = Market(settings=MarketSettings(), ledger=ledger, providers=[], now=lambda: T0 + TEN)
    ledger.record_auction(auction(), [award("a", **terms), award("b", **terms)], [])
    tight, enough = (
        Purse(market=market, run_id="run", budget_microusd=budget) for budget in (59_999, 60_000)
    )
    assert tight.spare_microusd() == 0
    given = lease(ledger, award("a", **terms))
    assert ledger.allocation(given.key) == given
    wanted = ledger.allocation(("run", "b", 1))
    assert wanted is not None
    refused = tight.over_budget(wanted)
    assert refused is not None
    assert "$0.030000 is spent or promised, and this step is expected to cost $0.030000" in (
        refused.reason
    )
    assert "$0.020000 of it to bring what it reads" in refused.reason
    assert tight.over_budget(award("c"), [wanted]) is not None
    assert enough.over_budget(wanted) is None
    ledger.accept(given.key, given.fencing_token, now=T0)
    ledger.settle(given.key, given.fencing_token, ended_at=T0 + TEN, usage=None)
    assert tight.over_budget(wanted) is not None
    assert enough.over_budget(wanted) is None


def test_what_ceilings_leave(spent: Ledger) -> None:
    settings = MarketSettings(
        accounts={
            "lab": AccountSettings(ceiling_usd_per_day=0.02),
            "idle": AccountSettings(ceiling_usd_per_day=1),
            "other": AccountSettings(weight=2),
        }
    )
    left = left_by_account(spent, settings, T0 + TEN)
    assert left == {"lab": -CENT, "idle": 100 * CENT}
