"""How long CUs take to start, as run workers have measured it: what buying ahead can save.

Kept as the ledger keeps forecasts: one row for each code location and place, over what was there
before. A place is a provider and its worker key: a node pool, a machine. Of a job it is kept how
long after its launch was due its run worker asked for the first CU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cu_market.domain.publication import Publication
from cu_market.domain.request import StepIdentity
from cu_market.ledger.interface import Ledger

MODEL = "start"
KEPT = 20
"""Newest times that count."""

MOST_LAG_MS = 600_000
"""A run that asks later was held up, by a queue or by its run worker's loss: that says nothing of
the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Startups:
    """What is known of starting workers in one place.

    Attributes:
        times_ms: from the request for one until its code was loaded, newest first.
        fit: what the last one was like; see Foresighted.
    """

    times_ms: tuple[int, ...] = ()
    fit: str = ""


def startups_of(code_location: str, place: str) -> StepIdentity:
    """Returns what a place's start-ups are known by: no step can be named so."""
    return StepIdentity(code_location=code_location, node=f"start of a worker of {place}")


def lags_of(code_location: str, job: str) -> StepIdentity:
    """Returns what the lags of a job's launches are known by: no step can be named so."""
    return StepIdentity(code_location=code_location, node=f"lag of launches of {job}")


def known_startups(ledger: Ledger, code_location: str, place: str) -> Startups:
    """Returns what is known of a place."""
    state = _state(ledger, startups_of(code_location, place))
    fit = state.get("fit")
    return Startups(times_ms=_times(state), fit=fit if isinstance(fit, str) else "")


def known_lags(ledger: Ledger, code_location: str, job: str) -> tuple[int, ...]:
    """Returns milliseconds from when a job's launch was due until its run asked for its first CU,
    newest first."""
    return _times(_state(ledger, lags_of(code_location, job)))


def note_startups(
    ledger: Ledger,
    code_location: str,
    measured: Mapping[str, Startups],
    *,
    job: str,
    lag_ms: int | None,
    now: datetime,
) -> None:
    """Keeps what one run has measured, by place, and its lag where that is known."""
    rows = []
    for place, new in measured.items():
        before = known_startups(ledger, code_location, place)
        times = [*new.times_ms, *before.times_ms][:KEPT]
        state: dict[str, list[int] | str] = {"times_ms": times, "fit": new.fit or before.fit}
        rows.append(_publication(startups_of(code_location, place), state, now))
    if lag_ms is not None and lag_ms <= MOST_LAG_MS:
        lags = [lag_ms, *known_lags(ledger, code_location, job)][:KEPT]
        rows.append(_publication(lags_of(code_location, job), {"times_ms": lags}, now))
    if rows:
        ledger.publish(rows)


def _publication(
    identity: StepIdentity, state: Mapping[str, list[int] | str], now: datetime
) -> Publication:
    return Publication(identity=identity, model=MODEL, published_at=now, state=dict(state))


def _state(ledger: Ledger, identity: StepIdentity) -> Mapping[str, object]:
    found = ledger.published([identity]).get(identity)
    return {} if found is None else found.state


def _times(state: Mapping[str, object]) -> tuple[int, ...]:
    said = state.get("times_ms")
    known = said if isinstance(said, list) else []
    return tuple(each for each in known if isinstance(each, int) and each >= 0)[:KEPT]
