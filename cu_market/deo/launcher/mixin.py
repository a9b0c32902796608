"""The market's half of a run launcher: an auction before the launch, health and reaping after it.

Import-light and without state of its own until the first launch: with run resume on, every process
that makes a DagsterInstance imports it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dagster import Field, Permissive

from cu_market.dagster_compat.events import EngineEventData

if TYPE_CHECKING:
    from dagster import DagsterInstance, DagsterRun

    from cu_market.dagster_compat.launcher import CheckRunHealthResult, LaunchRunContext
    from cu_market.deo.launcher.buyer import Buyer
    from cu_market.deo.launcher.patrol import Patrol
    from cu_market.market.auction import Market

logger = logging.getLogger(__name__)

LAUNCH_BUDGET_SECONDS = 3.0
"""Dequeueing is serial: a launch that waits blocks every other run."""

MARKET_FIELD = Field(
    Permissive(),
    is_required=False,
    description="Market settings: providers, ledger_url, mode, on_market_failure, and others.",
)


class MarketLauncherMixin:
    """Holds the auction of each run that it launches, then lets its base launch it.

    The base launcher stands to the right of it among the bases, so that everything which looks at
    the launcher's type or attributes finds the base's.
    """

    _instance: DagsterInstance

    def __init__(self, *args: Any, market: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        self._market_config = market
        self._market: Market | None = None
        self._market_lock = threading.Lock()
        self._patrol: Patrol | None = None
        self._buyer: Buyer | None = None
        self._buying: Patrol | None = None
        super().__init__(*args, **kwargs)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Returns the base's config and the market's."""
        return {**super().config_type(), "market": MARKET_FIELD}  # type: ignore[misc]

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> Any:
        """Returns a launcher; its market is opened at the first launch."""
        return cls(inst_data=inst_data, **config_value)

    # -- launching

    def launch_run(self, context: LaunchRunContext) -> None:
        """Holds the run's auction, then launches it. Never waits for capacity.

        Raises:
            InvalidInputError: tags that cannot be read, or steps that nobody can serve: the run
                fails before anything is spent.
        """
        from cu_market.domain.problem import InvalidInputError

        run = context.dagster_run
        try:
            self._hold_auction(context)
        except InvalidInputError:
            raise
        except Exception as error:
            from cu_market.dagster_compat.engine import current_error

            logger.exception("auction failed", extra={"action": "auction_failed"})
            self._report(
                run,
                f"The market could not hold the run's auction ({error}). The run starts; its "
                "executor asks again.",
                EngineEventData(error=current_error()),
            )
        super().launch_run(context)  # type: ignore[misc]
        self._start_patrol()
        self._start_buying(context)

    def _hold_auction(self, context: LaunchRunContext) -> None:
        from cu_market.deo.launcher.launch_auction import auction_for_launch
        from cu_market.deo.launcher.reaper import reap

        run, market = context.dagster_run, self._open_market()
        wanted = threading.Event()
        wanted.set()
        outcome: list[Any] = []

        def work() -> None:
            try:
                held = auction_for_launch(market, self._instance, context, wanted.is_set)
                self._look_ahead(market, run)
                outcome.append(held)
            except BaseException as error:  # noqa: BLE001 - handed to the waiting thread
                outcome.append(error)

        thread = threading.Thread(target=work, name="cu_market auction", daemon=True)
        thread.start()
        thread.join(LAUNCH_BUDGET_SECONDS)
        if not outcome:
            wanted.clear()
            raise TimeoutError(f"no answer within {LAUNCH_BUDGET_SECONDS} s")
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        sentence, data, tags = outcome[0]
        if tags:
            self._instance.add_run_tags(run.run_id, tags)
        self._report(run, sentence, data)
        reap(market, self._instance)

    def _look_ahead(self, market: Market, run: DagsterRun) -> None:
        """Reads of the market what launching the run asks for; within the auction's time."""

    def _start_patrol(self) -> None:
        from cu_market.deo.launcher.patrol import Patrol
        from cu_market.deo.launcher.reaper import reap

        def walk() -> int:
            market = self._open_market()
            reap(market, self._instance)
            return len(market.ledger.live_runs())

        with self._market_lock:
            if self._market is None:
                return  # it could not be opened: nothing was leased
            if self._patrol is None:
                self._patrol = Patrol(walk)
            self._patrol.start()

    def _start_buying(self, context: LaunchRunContext) -> None:
        """Has CUs bought ahead from now on, where that is wanted. A launch does not fail for it."""
        with self._market_lock:
            market = self._market
            if market is None or not market.settings.ahead.enabled:
                return
            if self._buyer is None or self._buying is None:
                from cu_market.deo.launcher.buyer import Buyer
                from cu_market.deo.launcher.patrol import Patrol

                self._buyer = Buyer(market, self._instance)
                self._buying = Patrol(
                    self._buyer.walk, pause=self._buyer.pause, name="cu_market buyer"
                )
            self._buying.start()
        if context.workspace is not None:
            from cu_market.dagster_compat.upcoming import zones_of

            try:
                self._buyer.know_zones(zones_of(context.workspace))
            except Exception:
                logger.exception("time zones not read", extra={"action": "ahead"})

    def _open_market(self) -> Market:
        from cu_market.deo.settings import beside_storage
        from cu_market.market.opening import open_market
        from cu_market.market.settings import parse_settings

        with self._market_lock:
            if self._market is None:
                settings = parse_settings(
                    self._market_config, "dagster.yaml: run_launcher.config.market"
                )
                settings = beside_storage(settings, self._instance)
                self._market = open_market(settings, self._instance.root_directory)
            return self._market

    def _report(self, run: DagsterRun, sentence: str, data: EngineEventData | None = None) -> None:
        self._instance.report_engine_event(sentence, run, data, cls=type(self))

    # -- health

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Always: the run's lease tells."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Returns the run worker's state by its lease, and reaps what dead runs have left.

        Where the base can tell more, as Kubernetes' can, its word comes first. Unless it says that
        the worker has ended well and the run has not: a Job whose pod was deleted makes another
        pod, which finds the run started, ends at once, and so completes the Job; Dagster's run
        monitoring would take that for a living run for ever (seen in 1.13.27).
        """
        from cu_market.dagster_compat.launcher import WorkerStatus
        from cu_market.deo.launcher.reaper import health_of, reap

        base: Any = super()
        told: CheckRunHealthResult | None = None
        if base.supports_check_run_worker_health:
            told = base.check_run_worker_health(run)
            if told.status is not WorkerStatus.SUCCESS or run.is_finished:
                return told
        market = self._open_market()
        result = health_of(market.ledger, run.run_id, market.now())
        reap(market, self._instance)
        return result if told is None or result.status is WorkerStatus.FAILED else told

    def dispose(self) -> None:
        """Ends the solver's process and frees the ledger."""
        from cu_market.market.opening import close_market

        if self._patrol is not None:
            self._patrol.stop()
            self._patrol = None
        if self._buying is not None and self._buyer is not None:
            self._buying.stop()
            try:
                self._buyer.close()
            except Exception:  # the instance is disposed of all the same: CUs end themselves
                logger.exception("purchases not let go", extra={"action": "ahead"})
            self._buying = self._buyer = None
        with self._market_lock:
            if self._market is not None:
                close_market(self._market)
                self._market = None
        super().dispose()  # type: ignore[misc]
