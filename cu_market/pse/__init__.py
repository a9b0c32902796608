"""Predictive scaling engine: from history to forecasts, from forecasts to sizes. Pure."""

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
