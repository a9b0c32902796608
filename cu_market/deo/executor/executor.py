"""The market's executor: finds or holds the run's auction, then runs its steps where they won."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any, NoReturn

from dagster import DagsterEvent, MetadataValue

from cu_market.dagster_compat.code_versions import code_versions_of_job, loaded_version
from cu_market.dagster_compat.engine import (
    DagsterExecutionInterruptedError,
    ExecutionPlan,
    Executor,
    InstanceConcurrencyContext,
    MultiprocessExecutor,
    PlanOrchestrationContext,
    RetryMode,
    StepDependencyConfig,
    check_captured_interrupt,
    current_error,
    interrupted_error,
)
from cu_market.dagster_compat.event_storage import connections_kept
from cu_market.dagster_compat.events import EngineEventData
from cu_market.dagster_compat.gate import GatedExecution
from cu_market.dagster_compat.launcher import resumes_runs
from cu_market.dagster_compat.outline import outline_of_plan
from cu_market.dagster_compat.step_execution import RunOutline as WorkerOutline
from cu_market.deo.announcements import auction_event
from cu_market.deo.executor.ahead import Foresight
from cu_market.deo.executor.lifeline import Lifeline, SupersededError
from cu_market.deo.executor.loop import Loop
from cu_market.deo.executor.negotiation import Negotiation
from cu_market.deo.executor.own_peak import note_own_peak
from cu_market.deo.executor.past_awards import awards_after
from cu_market.deo.executor.resume import Inheritance, give_up, replay, take_over
from cu_market.deo.executor.state import RunState
from cu_market.deo.executor.workers import Workers
from cu_market.deo.recommendation import (
    is_recommending,
    recommendation_event,
    would_be_refused,
)
from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.outline import RunOutline
from cu_market.domain.problem import CUMarketError, InvalidInputError
from cu_market.domain.spec import Mode, OnMarketFailure
from cu_market.ledger.interface import Auction
from cu_market.market.auction import Market
from cu_market.market.opening import close_market, open_market
from cu_market.market.retender import TOGETHER
from cu_market.market.settings import MarketSettings
from cu_market.market.unserved import NoRoomYetError
from cu_market.ral.local.process import current_holder
from cu_market.ral.provider import Adopting, Provider

logger = logging.getLogger(__name__)

WAIT_SECONDS = 1.0


class RecommendOnly(CUMarketError):
    """The auction was held to show what would have been bought.

    Attributes:
        data: what the run page is told beside the message; None where it has been told.
    """

    def __init__(self, message: str, data: EngineEventData | None) -> None:
        super().__init__(message)
        self.data = data


ADOPTABLE_SECONDS = 300.0
"""A run worker that takes over and finds no market waits for it so long, whatever the rule: steps
of the run may go on in pods, which end themselves after it unless told otherwise."""


class MarketExecutor(Executor):
    """Runs each step on the CU that won it.

    Args:
        settings: the market's configuration.
        dagster_home: where the embedded ledger is, or None.
        retries: as multiprocess has.
        max_concurrent: steps at once; 0 or None: as many as there is room for.
        tag_concurrency_limits: as multiprocess has.
        step_dependency_config: as multiprocess has.
    """

    def __init__(
        self,
        *,
        settings: MarketSettings,
        dagster_home: str | None,
        retries: RetryMode,
        max_concurrent: int | None = None,
        tag_concurrency_limits: list[dict[str, Any]] | None = None,
        step_dependency_config: StepDependencyConfig | None = None,
    ) -> None:
        self._settings = settings
        self._dagster_home = dagster_home
        self._retries = retries
        self._max_concurrent = max_concurrent or 0
        self._tag_concurrency_limits = tag_concurrency_limits
        self._step_dependency_config = step_dependency_config or StepDependencyConfig.default()

    @property
    def retries(self) -> RetryMode:
        """Whether steps are retried."""
        return self._retries

    @property
    def step_dependency_config(self) -> StepDependencyConfig:
        """When a step's dependencies count as met."""
        return self._step_dependency_config

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[DagsterEvent]:
        """Yields the run's events."""
        versions = code_versions_of_job(plan_context.job.get_definition())
        outline = outline_of_plan(plan_context.dagster_run, execution_plan, versions)
        with ExitStack() as stack:
            workers = self._workers(plan_context, execution_plan, versions)
            stack.callback(workers.close)
            try:
                market, inherited, awards, auction, is_own = yield from self._enter_market(
                    plan_context, outline, workers, stack
                )
            except RecommendOnly as recommended:
                if recommended.data is not None:
                    yield DagsterEvent.engine_event(
                        plan_context, str(recommended), recommended.data
                    )
                yield from self._native().execute(plan_context, execution_plan)
                return
            except InvalidInputError as error:
                if not is_recommending(self._settings.mode, outline.tags):
                    raise
                told = would_be_refused(error)
                yield DagsterEvent.engine_event(plan_context, told, EngineEventData())
                yield from self._native().execute(plan_context, execution_plan)
                return
            except Exception as error:
                if self._failure_rule(outline) is OnMarketFailure.FAIL:
                    raise
                yield DagsterEvent.engine_event(
                    plan_context,
                    f"The market cannot answer ({error}); on_market_failure is native: the steps "
                    "run as under multiprocess, unbilled.",
                    EngineEventData(error=current_error()),
                )
                yield from self._native().execute(plan_context, execution_plan)
                return
            if is_own:
                sentence, data = auction_event(auction)
                yield DagsterEvent.engine_event(plan_context, sentence, data)
            negotiation = Negotiation(market, outline, awards, auction)
            if inherited is not None:
                negotiation.count_past_attempts()
            try:
                yield from self._run(
                    plan_context, execution_plan, market, negotiation, workers, inherited
                )
            finally:
                note_own_peak(market, plan_context.dagster_run)
                if workers.foresight is not None:
                    workers.foresight.keep()

    def _workers(
        self,
        context: PlanOrchestrationContext,
        plan: ExecutionPlan,
        versions: Mapping[str, str],
    ) -> Workers:
        run, instance = context.dagster_run, context.instance
        outline = WorkerOutline.of(
            job=context.reconstructable_job,
            run=run,
            instance=instance,
            load_data=plan.repository_load_data,
            retry_mode=self._retries,
        )
        return Workers(
            run.run_id,
            asdict(outline),
            starter=current_holder(),
            run=run,
            instance=instance,
            code_version=loaded_version(context.reconstructable_job, versions),
            has_successor=resumes_runs(instance),
        )

    # -- entering the market

    def _enter_market(
        self,
        plan_context: PlanOrchestrationContext,
        outline: RunOutline,
        workers: Workers,
        stack: ExitStack,
    ) -> Generator[
        DagsterEvent,
        None,
        tuple[Market, Inheritance | None, Mapping[str, Allocation], Auction, bool],
    ]:
        """Returns an open market, what an earlier run worker has left, and the run's awards; waits
        for them where the run says so."""
        has_told = False
        inherited: Inheritance | None = None
        alone_from = time.monotonic() + ADOPTABLE_SECONDS if plan_context.resume_from_failure else 0
        while True:
            market: Market | None = None
            try:
                market = open_market(self._settings, self._dagster_home)
                stack.callback(close_market, market)
                workers.foresight = Foresight(
                    market,
                    plan_context.dagster_run,
                    plan_context.instance,
                    is_resumed=plan_context.resume_from_failure,
                )
                workers.carrier = market.carrier
                if plan_context.resume_from_failure and inherited is None:
                    inherited = take_over(market, plan_context.instance, outline, workers)
                found = self._find_awards(market, outline, inherited, workers)
                return (market, inherited, *found)
            except (InvalidInputError, RecommendOnly):
                raise
            except Exception as error:
                # Room is waited for whatever the rule: that others have it now is no failure.
                is_for_room = isinstance(error, NoRoomYetError) and not is_recommending(
                    self._settings.mode, outline.tags
                )
                rule = self._failure_rule(outline)
                if (
                    rule is OnMarketFailure.NATIVE
                    and inherited is None
                    and time.monotonic() < alone_from
                ):
                    rule = OnMarketFailure.WAIT  # its steps may still run where nobody looks
                if not is_for_room and rule is not OnMarketFailure.WAIT:
                    if inherited is not None and market is not None:
                        give_up(market, outline.run_id, workers)
                    raise
                if not has_told:
                    has_told = True
                    yield DagsterEvent.engine_event(
                        plan_context, *_waiting_event(error, is_for_room=is_for_room)
                    )
                self._pause()

    @staticmethod
    def _pause() -> None:
        time.sleep(WAIT_SECONDS)
        if check_captured_interrupt():
            raise interrupted_error()

    def _find_awards(
        self,
        market: Market,
        outline: RunOutline,
        inherited: Inheritance | None,
        workers: Workers,
    ) -> tuple[Mapping[str, Allocation], Auction, bool]:
        """Returns the launcher's awards where they cover the run, else those of an own auction."""
        if is_recommending(market.settings.mode, outline.tags):
            self._recommend(market, outline)
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
            workers.prewarm(*market.providers.values())
        try:
            cleared = market.clear(outline, place="executor")
        except BaseException:
            workers.end_all()
            raise
        return cleared.allocations, cleared.auction, True

    @staticmethod
    def _recommend(market: Market, outline: RunOutline) -> NoReturn:
        """Raises RecommendOnly: with the auction that it holds, or without where one was held."""
        if any(a.mode == Mode.RECOMMEND for a in market.ledger.auctions(outline.run_id, limit=1)):
            raise RecommendOnly("the launcher has told", None)
        raise RecommendOnly(*recommendation_event(market.clear(outline, place="executor").auction))

    def _failure_rule(self, outline: RunOutline) -> OnMarketFailure:
        if is_recommending(self._settings.mode, outline.tags):
            return OnMarketFailure.NATIVE
        said = outline.tags.get("cu/on_market_failure")
        return OnMarketFailure(said) if said else self._settings.on_market_failure

    def _native(self) -> MultiprocessExecutor:
        return MultiprocessExecutor(
            retries=self._retries,
            max_concurrent=self._max_concurrent or None,
            tag_concurrency_limits=self._tag_concurrency_limits,
            step_dependency_config=self._step_dependency_config,
        )

    # -- running

    def _run(
        self,
        context: PlanOrchestrationContext,
        plan: ExecutionPlan,
        market: Market,
        negotiation: Negotiation,
        workers: Workers,
        inherited: Inheritance | None,
    ) -> Iterator[DagsterEvent]:
        run = context.dagster_run
        limit = self._max_concurrent or 4 * multiprocessing.cpu_count()
        yield DagsterEvent.engine_event(
            context,
            "Executing steps using market executor",
            EngineEventData(
                metadata={
                    "cu/providers": MetadataValue.text(", ".join(market.providers)),
                    "cu/max_concurrent": MetadataValue.int(limit),
                }
            ),
        )
        holder = current_holder()
        lifeline = Lifeline(market, run.run_id, holder)
        lifeline.renew()
        is_left = is_superseded = False
        try:
            with (
                connections_kept(context.instance),
                InstanceConcurrencyContext(context.instance, run) as slots,
                GatedExecution(
                    plan,
                    retry_mode=self._retries,
                    max_concurrent=limit,
                    tag_concurrency_limits=self._tag_concurrency_limits,
                    instance_concurrency_context=slots,
                    step_dependency_config=self._step_dependency_config,
                ) as active,
            ):
                state = RunState(
                    executor=self,
                    context=context,
                    active=active,
                    negotiation=negotiation,
                    workers=workers,
                    max_concurrent=limit,
                )
                loop = Loop(state, lifeline)
                if inherited is not None:
                    yield from replay(state, inherited)
                try:
                    yield from loop.run()
                except SupersededError as error:
                    is_superseded = True
                    raise interrupted_error() from error
                except DagsterExecutionInterruptedError:
                    is_left = state.is_left
                    raise
                except Exception:
                    if loop.running_steps:
                        yield DagsterEvent.engine_event(
                            context,
                            "Unexpected exception while steps were still in progress - ending them",
                            EngineEventData(
                                metadata={
                                    "steps_interrupted": MetadataValue.text(str(loop.running_steps))
                                },
                                error=current_error(),
                            ),
                        )
                    raise
        finally:
            if is_superseded or lifeline.is_superseded():
                workers.leave()
                _leave_at_once()
            elif is_left:
                # No goodbye: the run goes on, and whoever looks at its lease waits for a successor.
                negotiation.leases.settle_all(spared=workers.leave())
            else:
                _end_run(market, workers, run.run_id, holder)
                negotiation.leases.settle_all()
                lifeline.end()
        yield DagsterEvent.engine_event(
            context, "Market executor: all steps have ended", EngineEventData()
        )


def _leave_at_once() -> NoReturn:
    """Ends this process, whose run another one has taken over: any return or error would have
    Dagster write an end into that one's run."""
    logger.warning("superseded: this run worker ends", extra={"action": "superseded"})
    logging.shutdown()
    os._exit(1)


def _waiting_event(error: Exception, *, is_for_room: bool) -> tuple[str, EngineEventData]:
    """Returns what a run is told that waits for the market."""
    again = "asked again every second. The run can be cancelled."
    if is_for_room:
        return f"Waiting for room: {error}. The market is {again}", EngineEventData()
    said = f"The market cannot answer ({error}); on_market_failure is wait: it is {again}"
    return said, EngineEventData(error=current_error())


def _end_run(market: Market, workers: Workers, run_id: str, starter: str) -> None:
    """Ends every worker of a run."""
    holders = workers.holders()
    workers.close()
    for provider in market.providers.values():
        reap(provider, run_id, holders, starter)
    workers.collect()
    if market.carrier is not None:
        market.carrier.forget_run(run_id)


def reap(provider: Provider, run_id: str, holders: Sequence[str], starter: str) -> None:
    """Has a provider end what is left of a run's workers; one that is away is told of later.

    Args:
        provider: who started some of them.
        run_id: the run.
        holders: of the workers that lived at the end.
        starter: holder of this process, by which an exclusive provider finds those of its workers
            that no lease names.
    """
    if not provider.capabilities.reap:
        return
    found_by = [*holders, starter] if provider.capabilities.exclusive else holders
    try:
        if isinstance(provider, Adopting):
            provider.reap_run(run_id)
        else:
            provider.reap(found_by)
    except OSError:
        logger.exception(
            "not reaped now: left to any daemon's reaper",
            extra={"action": "reap", "provider": provider.name},
        )
