"""The run worker's own memory, which sizes the pods of the run workers that follow it."""

from __future__ import annotations

import logging
import os
import resource
import sys

from dagster import DagsterRun

from cu_market.dagster_compat.outline import location_name
from cu_market.domain.problem import CUMarketError
from cu_market.market.auction import Market
from cu_market.market.run_workers import note_peak

logger = logging.getLogger(__name__)

IN_POD = "KUBERNETES_SERVICE_HOST"
"""Set by Kubernetes in every pod. Elsewhere nobody asks how large a run worker is to be."""


def note_own_peak(market: Market, run: DagsterRun) -> None:
    """Tells the ledger the largest resident set of this process, where it is a pod's."""
    if IN_POD not in os.environ:
        return
    unit = 1 if sys.platform == "darwin" else 1024
    peak = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        note_peak(market.ledger, location_name(run), run.job_name, peak, now=market.now())
    except CUMarketError:
        logger.exception("run worker's peak not kept", extra={"action": "note own peak"})
