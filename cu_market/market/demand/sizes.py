"""One step's size: its own past through the forecaster, others' where it has none, and its tags."""

from __future__ import annotations

from dataclasses import replace

from cu_market.domain.features import NO_FEATURES
from cu_market.domain.outline import StepOutline
from cu_market.domain.resources import ResourceVector
from cu_market.domain.spec import ComputeSpec
from cu_market.market.demand.inputs import last_input_bytes
from cu_market.market.demand.past import Past
from cu_market.market.settings import MarketSettings
from cu_market.pse.forecast import Forecast, Forecaster
from cu_market.pse.models.borrowing import borrow_forecast
from cu_market.pse.sizing import SizedStep, size_step


def size_of(
    step: StepOutline,
    spec: ComputeSpec,
    past: Past,
    *,
    settings: MarketSettings,
    model: Forecaster,
    override: ComputeSpec | None = None,
    job: ComputeSpec | None = None,
    largest: ResourceVector | None = None,
) -> SizedStep:
    """Returns what a step is to be given, and why.

    Args:
        step: as its run knows it.
        spec: what its op's tags say.
        past: what is known of it and of those that it may borrow from.
        settings: defaults and thresholds.
        model: what turns history into distributions.
        override: what its launch says of it.
        job: what the run's and the job's tags say of all steps.
        largest: the largest CU there is: headroom is cut at it.
    """
    forecast = _forecast(step, past, model)
    return size_step(
        spec,
        partition=step.identity.partition,
        override=override,
        job=job,
        forecast=forecast,
        borrowed=_borrowed(step, spec, past, settings, forecast),
        defaults=settings.defaults.to_defaults(),
        min_attempts=settings.min_attempts,
        largest=largest,
    )


def _forecast(step: StepOutline, past: Past, model: Forecaster) -> Forecast | None:
    """Returns what the step's past lets expect of it; what is not measured yet, as it last was."""
    history = past.of(step.identity)
    last = history[0].features if history else NO_FEATURES
    features = replace(
        step.features,
        input_rows=_first_known(step.features.input_rows, last.input_rows),
        upstream_keys=_first_known(step.features.upstream_keys, last.upstream_keys),
    )
    return model.forecast(
        step.identity,
        history,
        code_version=step.code_version or None,
        input_bytes=step.input_bytes or last_input_bytes(history),
        features=features,
        running_ms=past.running_ms.get(step.identity, ()),
    )


def _first_known(measured: int | None, last: int | None) -> int | None:
    return last if measured is None else measured


def _borrowed(
    step: StepOutline,
    spec: ComputeSpec,
    past: Past,
    settings: MarketSettings,
    forecast: Forecast | None,
) -> Forecast | None:
    """Returns what others let expect of a step that has never ended well itself, or None."""
    lent = past.lent_to(step.identity)
    if not lent or (forecast is not None and forecast.attempts):
        return None
    return borrow_forecast(
        step.identity,
        lent,
        declared_bytes=spec.memory_bytes,
        default_bytes=settings.defaults.to_defaults().memory_bytes,
        input_bytes=step.input_bytes,
    )
