"""The market's run launcher, named by a test's dagster.yaml where its auction is looked at.

A launch waits a few seconds for its auction, since it holds up all others, and leaves it to the
run's executor then: on a busy machine that is right, and may happen. This one waits for minutes.
"""

from __future__ import annotations

from cu_market import MarketRunLauncher
from cu_market.deo.launcher import mixin

__all__ = ["MarketRunLauncher"]

mixin.LAUNCH_BUDGET_SECONDS = 240.0
