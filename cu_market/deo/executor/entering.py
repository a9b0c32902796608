"""Entering the market: a run's awards are found or auctioned, what another run worker left is taken
over, and a market that cannot answer is waited for where the run says so."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NoReturn

from dagster import DagsterEvent

from cu_market.dagster_compat.engine import (
    PlanOrchestrationContext,
    check_captured_interrupt,
    current_error,
    interrupted_error,
)
from cu_market.dagster_compat.events import EngineEventData
from cu_market.deo.executor.ahead import Foresight
from cu_market.deo.executor.past_awards import awards_after
from cu_market.deo.executor.resume import Inheritance, give_up, take_over
from cu_market.deo.executor.workers import Workers
from cu_market.deo.recommendation import is_recommending, recommendation_event
from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.auction import Auction
from cu_market.domain.outline import RunOutline
from cu_market.domain.problem import CUMarketError, InvalidInputError
from cu_market.domain.spec import Mode, OnMarketFailure
from cu_market.market.auction import Market
from cu_market.market.opening import close_market, open_market
from cu_market.market.settings import MarketSettings
from cu_market.market.together.retender import TOGETHER
from cu_market.market.unserved import NoRoomYetError

WAIT_SECONDS = 1.0

ADOPTABLE_SECONDS = 300.0
"""A run worker that takes over and finds no market waits for it so long, whatever the rule: steps
of the run may go on in pods, which end themselves after it unless told otherwise."""


class RecommendOnly(CUMarketError):
    """The auction was held to show what would have been bought.

    Attributes:
        data: what the run page is told beside the message; None where it has been told.
    """

    def __init__(self, message: str, data: EngineEventData | None) -> None:
        super().__init__(message)
        self.data = data


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """What a run begins with in the market.

    Attributes:
        market: open.
        inherited: what an earlier run worker has left, or None.
        awards: by step_key, of every step.
        auction: which reports on them.
        is_own: whether this run worker has held it.
    """

    market: Market
    inherited: Inheritance | None
    awards: Mapping[str, Allocation]
    auction: Auction
    is_own: bool


class Entrance:
    """One run's way into the market.

    Args:
        settings: the market's configuration.
        dagster_home: where the embedded ledger is, or None.
        context: the run's.
        outline: what is to be run.
        workers: told of the market once it is open.
    """

    def __init__(
        self,
        settings: MarketSettings,
        dagster_home: str | None,
        *,
        context: PlanOrchestrationContext,
        outline: RunOutline,
        workers: Workers,
    ) -> None:
        self._settings = settings
        self._dagster_home = dagster_home
        self._context = context
        self._outline = outline
        self._workers = workers

    @property
    def is_recommending(self) -> bool:
        """Whether the market only says what it would do."""
        return is_recommending(self._settings.mode, self._outline.tags)

    def failure_rule(self) -> OnMarketFailure:
        """Returns what is to be done where the market cannot answer."""
        if self.is_recommending:
            return OnMarketFailure.NATIVE
        said = self._outline.tags.get("cu/on_market_failure")
        return OnMarketFailure(said) if said else self._settings.on_market_failure

    def enter(self, stack: ExitStack) -> Generator[DagsterEvent, None, Entered]:
        """Returns an open market, what an earlier run worker has left, and the run's awards; waits
        for them where the run says so.

        Args:
            stack: closes the market.

        Raises:
            RecommendOnly: nothing is to be bought.
            InvalidInputError: what the run asks for.
            Exception: the market cannot answer, and is not to be waited for.
        """
        has_told = False
        inherited: Inheritance | None = None
        is_resumed = self._context.resume_from_failure
        alone_from = time.monotonic() + ADOPTABLE_SECONDS if is_resumed else 0
        while True:
            market: Market | None = None
            try:
                market = open_market(self._settings, self._dagster_home)
                stack.callback(close_market, market)
                self._equip_workers(market)
                if is_resumed and inherited is None:
                    inherited = take_over(
                        market, self._context.instance, self._outline, self._workers
                    )
                awards, auction, is_own = self._find_awards(market, inherited)
                return Entered(
                    market=market,
                    inherited=inherited,
                    awards=awards,
                    auction=auction,
                    is_own=is_own,
                )
            except (InvalidInputError, RecommendOnly):
                raise
            except Exception as error:
                # Room is waited for whatever the rule: that others have it now is no failure.
                is_for_room = isinstance(error, NoRoomYetError) and not self.is_recommending
                if not self._is_patient(inherited, alone_from) and not is_for_room:
                    if inherited is not None and market is not None:
                        give_up(market, self._outline.run_id, self._workers)
                    raise
                if not has_told:
                    has_told = True
                    yield DagsterEvent.engine_event(
                        self._context, *_waiting_event(error, is_for_room=is_for_room)
                    )
                _pause()

    def _equip_workers(self, market: Market) -> None:
        self._workers.foresight = Foresight(
            market,
            self._context.dagster_run,
            self._context.instance,
            is_resumed=self._context.resume_from_failure,
        )
        self._workers.carrier = market.carrier

    def _is_patient(self, inherited: Inheritance | None, alone_from: float) -> bool:
        """Whether a market that cannot answer is waited for."""
        rule = self.failure_rule()
        if rule is OnMarketFailure.NATIVE and inherited is None:
            return time.monotonic() < alone_from  # its steps may still run where nobody looks
        return rule is OnMarketFailure.WAIT

    def _find_awards(
        self, market: Market, inherited: Inheritance | None
    ) -> tuple[Mapping[str, Allocation], Auction, bool]:
        """Returns the launcher's awards where they cover the run, else those of an own auction."""
        outline = self._outline
        if is_recommending(market.settings.mode, outline.tags):
            _recommend(market, outline)
        if inherited is not None:
            return awards_after(market, outline, inherited)
        waiting = market.ledger.allocations(run_id=outline.run_id, states=[AllocationState.AWARDED])
        awards = {award.step_key: award for award in waiting}
        if all(step.step_key in awards for step in outline.steps):
            # What others' auctions have moved since is taken over as the run goes.
            held = market.ledger.auctions(outline.run_id)
            auction = next((each for each in held if each.place != TOGETHER), None)
            if auction is not None:
                return awards, auction, False
        if len(market.providers) == 1:
            # Nobody else can win: its worker loads the code while the auction is held.
            self._workers.prewarm(*market.providers.values())
        try:
            cleared = market.clear(outline, place="executor")
        except BaseException:
            self._workers.end_all()
            raise
        return cleared.allocations, cleared.auction, True


def _recommend(market: Market, outline: RunOutline) -> NoReturn:
    """Raises RecommendOnly: with the auction that it holds, or without where one was held."""
    if any(a.mode == Mode.RECOMMEND for a in market.ledger.auctions(outline.run_id, limit=1)):
        raise RecommendOnly("the launcher has told", None)
    raise RecommendOnly(*recommendation_event(market.clear(outline, place="executor").auction))


def _pause() -> None:
    time.sleep(WAIT_SECONDS)
    if check_captured_interrupt():
        raise interrupted_error()


def _waiting_event(error: Exception, *, is_for_room: bool) -> tuple[str, EngineEventData]:
    """Returns what a run is told that waits for the market."""
    again = "asked again every second. The run can be cancelled."
    if is_for_room:
        return f"Waiting for room: {error}. The market is {again}", EngineEventData()
    said = f"The market cannot answer ({error}); on_market_failure is wait: it is {again}"
    return said, EngineEventData(error=current_error())
