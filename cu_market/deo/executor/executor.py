"""The market's executor: finds or holds the run's auction, then runs its steps where they won."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
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
from cu_market.deo.executor.entering import Entered, Entrance, RecommendOnly
from cu_market.deo.executor.lifeline import Lifeline, SupersededError
from cu_market.deo.executor.loop import Loop
from cu_market.deo.executor.negotiation import Negotiation
from cu_market.deo.executor.own_peak import note_own_peak
from cu_market.deo.executor.resume import replay
from cu_market.deo.executor.state import RunState
from cu_market.deo.executor.workers import Workers
from cu_market.deo.recommendation import would_be_refused
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.spec import OnMarketFailure
from cu_market.market.auction import Market
from cu_market.market.settings import MarketSettings
from cu_market.ral.local.process import current_holder
from cu_market.ral.provider import Adopting, Provider

logger = logging.getLogger(__name__)

UNLIMITED = 10**6
"""Steps at once, as the state machine has it where nobody has said how many: the market counts."""


class MarketExecutor(Executor):
    """Runs each step on the CU that won it.

    Args:
        settings: the market's configuration.
        dagster_home: where the embedded ledger is, or None.
        retries: as multiprocess has.
        max_concurrent: steps at once; 0 or None: four for each CPU of this machine, and as many as
            there is room for on CUs that are rented whole.
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
            entrance = Entrance(
                self._settings,
                self._dagster_home,
                context=plan_context,
                outline=outline,
                workers=workers,
            )
            try:
                entered = yield from entrance.enter(stack)
            except RecommendOnly as recommended:
                if recommended.data is not None:
                    yield DagsterEvent.engine_event(
                        plan_context, str(recommended), recommended.data
                    )
                yield from self._native().execute(plan_context, execution_plan)
                return
            except InvalidInputError as error:
                if not entrance.is_recommending:
                    raise
                told = would_be_refused(error)
                yield DagsterEvent.engine_event(plan_context, told, EngineEventData())
                yield from self._native().execute(plan_context, execution_plan)
                return
            except Exception as error:
                if entrance.failure_rule() is OnMarketFailure.FAIL:
                    raise
                yield DagsterEvent.engine_event(
                    plan_context,
                    f"The market cannot answer ({error}); on_market_failure is native: the steps "
                    "run as under multiprocess, unbilled.",
                    EngineEventData(error=current_error()),
                )
                yield from self._native().execute(plan_context, execution_plan)
                return
            if entered.is_own:
                sentence, data = auction_event(entered.auction)
                yield DagsterEvent.engine_event(plan_context, sentence, data)
            negotiation = Negotiation(entered.market, outline, entered.awards, entered.auction)
            if entered.inherited is not None:
                negotiation.count_past_attempts()
            try:
                yield from self._run(plan_context, execution_plan, entered, negotiation, workers)
            finally:
                note_own_peak(entered.market, plan_context.dagster_run)
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
        entered: Entered,
        negotiation: Negotiation,
        workers: Workers,
    ) -> Iterator[DagsterEvent]:
        run, market = context.dagster_run, entered.market
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
                    max_concurrent=self._max_concurrent or UNLIMITED,
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
                    is_limit_said=bool(self._max_concurrent),
                )
                loop = Loop(state, lifeline)
                if entered.inherited is not None:
                    yield from replay(state, entered.inherited)
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
