"""Predictive scaling engine: from history to forecasts, from forecasts to sizes. Pure.

traces      recorded executions (Nextflow, WfFormat) as tasks
protocols   Predictor (predict, learn); replays of traces over one; scores; every method compared
models      LearnedPredictor: borrowing, experts, mixture, censoring, calibration, risk attitudes
ladder      the retry ladder of least expected cost over a distribution
baselines   the rules that it is compared with

A forecast for a step comes from a Forecaster (pse.forecast): ``forecast(identity, history, ...)``
returns a Forecast, whose ``allocation_bytes(risk)`` is the size to ask for. What is imported here
is light; numpy is imported by ladder, models, baselines and protocols only.
"""

from cu_market.pse.distribution import Distribution
from cu_market.pse.empirical import EmpiricalForecaster, next_after_oom
from cu_market.pse.forecast import Forecast, Forecaster
from cu_market.pse.performance import performance_millis
from cu_market.pse.sizing import SizedStep, size_step

__all__ = [
    "Distribution",
    "EmpiricalForecaster",
    "Forecast",
    "Forecaster",
    "SizedStep",
    "next_after_oom",
    "performance_millis",
    "size_step",
]
