"""What run workers in pods have needed, and what the next one of a job is to be given.

A run worker relays and negotiates; what it needs follows from the code that it has loaded and the
steps that its job has, so the jobs' own pasts tell it. The peaks are kept as the ledger keeps
forecasts: one row a job, over what was there before.
"""

from __future__ import annotations

from datetime import datetime

from cu_market.domain.publication import Publication
from cu_market.domain.request import StepIdentity
from cu_market.domain.units import MIB
from cu_market.ledger.interface import Ledger
from cu_market.pse.forecast import round_memory

MODEL = "run worker"
KEPT = 10
"""Newest peaks of a job that count."""

HEADROOM_RATIO = 1.25
LEAST_BYTES = 128 * MIB


def run_worker_of(code_location: str, job: str) -> StepIdentity:
    """Returns what a job's run workers are known by: no step can be named so."""
    return StepIdentity(code_location=code_location, node=f"run worker of {job}")


def note_peak(
    ledger: Ledger, code_location: str, job: str, peak_bytes: int, *, now: datetime
) -> None:
    """Keeps a run worker's peak."""
    identity = run_worker_of(code_location, job)
    peaks = [peak_bytes, *known_peaks(ledger, identity)][:KEPT]
    ledger.publish(
        [Publication(identity=identity, model=MODEL, published_at=now, state={"peaks": peaks})]
    )


def wanted_bytes(ledger: Ledger, code_location: str, job: str) -> int | None:
    """Returns the memory that a job's next run worker is to be given, None where none has ended."""
    peaks = known_peaks(ledger, run_worker_of(code_location, job))
    return max(LEAST_BYTES, round_memory(HEADROOM_RATIO * max(peaks))) if peaks else None


def known_peaks(ledger: Ledger, identity: StepIdentity) -> list[int]:
    """Returns a job's run workers' peaks in bytes, newest first."""
    found = ledger.published([identity]).get(identity)
    peaks = found.state.get("peaks") if found else None
    known = peaks if isinstance(peaks, list) else []
    return [peak for peak in known if isinstance(peak, int) and peak > 0]
