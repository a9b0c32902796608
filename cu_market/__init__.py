"""A market for compute inside Dagster.

``compute`` says what a step needs, ``market_executor`` runs steps where they won, and
``MarketRunLauncher`` holds each run's auction as it is launched; so does ``MarketK8sRunLauncher``,
which starts the run worker in a pod. Each is loaded when it is named, so that importing this
package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cu_market.deo.executor.definition import market_executor
    from cu_market.deo.launcher.k8s_launcher import MarketK8sRunLauncher
    from cu_market.deo.launcher.launcher import MarketRunLauncher
    from cu_market.domain.compute import compute

__all__ = ["MarketK8sRunLauncher", "MarketRunLauncher", "compute", "market_executor"]

_HOMES = {
    "MarketK8sRunLauncher": "cu_market.deo.launcher.k8s_launcher",
    "MarketRunLauncher": "cu_market.deo.launcher.launcher",
    "compute": "cu_market.domain.compute",
    "market_executor": "cu_market.deo.executor.definition",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cu_market' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
