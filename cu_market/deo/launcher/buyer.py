"""Buys CUs ahead of the runs that are to use them, in the background of whoever launches runs.

One round:

1. look after what stands: what is ready is noted, what has ended is let go;
2. let go what others bought and left, and what a run took that has ended since;
3. expect launches, and auction tentatively what they would ask for (every few seconds);
4. plan: buy, keep, let go;
5. buy: room is taken in the ledger first, then the worker is started.

Several launching processes may do so at once: a purchase's id names its launch, and who writes it
first buys it.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import datetime, timedelta

from dagster import DagsterInstance

from cu_market.dagster_compat.upcoming import Zones
from cu_market.deo.launcher.expecting import Expecting, Tentative
from cu_market.domain.problem import CUMarketError
from cu_market.domain.purchase import OPEN, Purchase, PurchaseState
from cu_market.domain.resources import ResourceVector
from cu_market.market.accounts.ceilings import left_by_account
from cu_market.market.ahead.buying import Buy, Want, plan_ahead, purchase_of
from cu_market.market.ahead.standing import end_worker, give_back, let_go
from cu_market.market.auction import Market
from cu_market.ral.local.process import current_holder, is_alive
from cu_market.ral.places import foresighted
from cu_market.ral.provider import HolderStatus, Standby, WorkerLaunch

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How often launches are looked for, and standing workers looked after."""

LEAST_SECONDS, STARTING_SECONDS = 0.1, 0.5
KEPT = 500
"""Newest purchases that are looked at."""


class Buyer:
    """Buys ahead for one deployment. The methods are for one thread.

    Args:
        market: open.
        instance: whose launches are expected.
    """

    def __init__(self, market: Market, instance: DagsterInstance) -> None:
        self._market = market
        self._instance = instance
        self._holder = current_holder()
        self._expecting = Expecting(market, instance, self._holder)
        self._wanted: list[tuple[Want, Tentative]] = []
        self._expected_at = float("-inf")
        self._next_at: datetime | None = None
        self._is_starting = False
        self._mine: dict[str, Purchase] = {}

    def know_zones(self, zones: Zones) -> None:
        """Takes the time zones of the schedules that a launch has shown."""
        self._expecting.zones = {**self._expecting.zones, **zones}

    def walk(self) -> int:
        """Makes one round; returns 1: there may always be another launch to come."""
        now = self._market.now()
        self._is_starting = False
        self._look_after(now)
        self._clear_away(now)
        bought = self._market.ledger.purchases(limit=KEPT)
        if time.monotonic() - self._expected_at >= LOOK_SECONDS:
            self._expected_at = time.monotonic()
            self._wanted = self._expecting.launches(now, bought)
        wants = [want for want, _ in self._wanted]
        plan = plan_ahead(
            wants,
            bought,
            now=now,
            free=self._free({want.capacity_id: want.provider for want in wants}),
            most=self._market.settings.ahead.most,
            money=left_by_account(self._market.ledger, self._market.settings, now),
        )
        self._next_at = plan.next_at
        for purchase, why in plan.releases:
            # Another launching process may know of launches that this one does not.
            if purchase.buyer == self._holder or now >= purchase.expires_at:
                self._let_go(purchase, why, now)
        for purchase, until in plan.extends:
            self._market.ledger.advance_purchase(purchase.purchase_id, expires_at=until)
        launches = {want.want_id: tentative for want, tentative in self._wanted}
        for buy in plan.buys:
            self._buy(buy, launches[buy.want.want_id], now)
        return 1

    def pause(self) -> float:
        """Returns seconds until the next round: sooner where a purchase is due or starting."""
        until = STARTING_SECONDS if self._is_starting else LOOK_SECONDS
        if self._next_at is not None:
            due = (self._next_at - self._market.now()) / timedelta(seconds=1)
            until = min(until, max(LEAST_SECONDS, due))
        return until

    def close(self) -> None:
        """Lets go of all that this process has bought and nobody has taken."""
        for purchase in list(self._mine.values()):
            self._let_go(purchase, "the process that bought it has ended", self._market.now())

    # -- what stands

    def _look_after(self, now: datetime) -> None:
        standing = {each.purchase_id: each for each in self._market.ledger.purchases(states=OPEN)}
        for purchase_id in list(self._mine):
            mine = standing.get(purchase_id)
            if mine is None:
                self._forget(purchase_id)
                continue
            self._mine[purchase_id] = mine
            foresight = foresighted(self._market.providers[mine.provider])
            if foresight is None:
                continue
            try:
                state = foresight.look_after(mine.holder)
            except OSError:
                logger.info("not looked after now", extra={"action": "ahead"}, exc_info=True)
                continue
            if state is Standby.GONE:
                self._let_go(mine, "its worker has ended", now)
            elif state is Standby.STARTING:
                self._is_starting = True
            elif mine.state is PurchaseState.STARTING:
                self._market.ledger.advance_purchase(purchase_id, ready_at=self._market.now())

    def _forget(self, purchase_id: str) -> None:
        """Ends the worker of a purchase that another process has let go: it may be out of its
        reach. What a run had taken first is that run's: it may go on with the worker."""
        mine = self._mine.pop(purchase_id)
        ended = self._market.ledger.purchases(states=[PurchaseState.LET_GO], limit=KEPT)
        if any(each.purchase_id == purchase_id and not each.run_id for each in ended):
            end_worker(self._market, mine)

    def _clear_away(self, now: datetime) -> None:
        states = [*OPEN, PurchaseState.TAKEN]
        for each in self._market.ledger.purchases(states=states):
            if each.state is PurchaseState.TAKEN:
                run = self._instance.get_run_by_id(each.run_id)
                if run is None or run.is_finished:
                    give_back(self._market, each.run_id, now)
            elif each.buyer != self._holder and is_alive(each.buyer) is HolderStatus.ENDED:
                let_go(self._market, each, "the process that bought it is gone", now)

    def _let_go(self, purchase: Purchase, why: str, now: datetime) -> None:
        let_go(self._market, purchase, why, now)
        self._mine.pop(purchase.purchase_id, None)

    # -- what is bought

    def _free(self, providers: dict[str, str]) -> dict[str, ResourceVector]:
        free = {}
        for capacity_id, provider in providers.items():
            try:
                total = self._market.capacity(capacity_id, provider)
            except OSError:
                continue  # away: nothing is bought there meanwhile
            free[capacity_id] = total.minus(self._market.ledger.held(capacity_id))
        return free

    def _buy(self, buy: Buy, tentative: Tentative, now: datetime) -> None:
        want = buy.want
        wanted = purchase_of(buy, buyer=self._holder, now=now)
        capacity = self._market.capacity(want.capacity_id, want.provider)
        made = self._market.ledger.buy(wanted, capacity=capacity)
        if made != wanted:
            return  # no room after all, or another process was quicker
        try:
            holder = tentative.provider.start_ahead(_named(tentative.launch, want.want_id))
        except (OSError, CUMarketError) as error:
            logger.warning("not started ahead: %s", error, extra={"action": "ahead"})
            self._let_go(wanted, f"could not be started: {error}", self._market.now())
            return
        kept = self._market.ledger.advance_purchase(want.want_id, holder=holder)
        self._mine[want.want_id] = kept or replace(wanted, holder=holder)
        self._is_starting = True
        if kept is None:  # it had to give way while it was being started
            self._forget(want.want_id)
        logger.info("bought ahead: %s", want.want_id, extra={"action": "ahead"})


def _named(launch: WorkerLaunch, purchase_id: str) -> WorkerLaunch:
    """Returns the launch as that of one purchase: no two have a worker of the same name."""
    assert launch.allocation is not None
    allocation = replace(launch.allocation, run_id=purchase_id)
    return replace(launch, run_id=purchase_id, allocation=allocation)
