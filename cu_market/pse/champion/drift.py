"""Whether a model should be trained anew, or its champion sent back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from cu_market.pse.champion.evaluation import Scored

RECENT = 5
"""Newest attempts of a step that are looked at."""

ERROR_FACTOR, ERROR_ADDED = 1.5, 0.15
"""Relative wastage may be so much worse than before."""

FAILED_RATIO = 0.34

LEVEL_RATIO = 1.5
"""A step whose newest peaks are so many times (or that part of) those trained on has drifted. Its
own history adapts after one attempt, so that its error alone would show it for a moment only."""

LEVEL_ATTEMPTS = 3
NEW_ATTEMPTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What has changed for one step.

    Attributes:
        step: its node.
        reason: in words.
    """

    step: str
    reason: str


def find_drift(
    scored: Sequence[Scored],
    *,
    trained_on: int,
    code_versions: Sequence[str] = (),
    trained_at: datetime | None = None,
) -> list[Drift]:
    """Returns every reason to train anew.

    A step drifts when its newest attempts fail more often than FAILED_RATIO, or waste more than
    ERROR_FACTOR x + ERROR_ADDED of what they wasted before, or run code that was not seen before.

    Args:
        scored: live attempts under the champion, oldest first.
        trained_on: attempts that the champion knew; 0 where that is not known.
        code_versions: those it knew; empty where none are declared.
        trained_at: when a model was last trained; None where levels are not compared, and what is
            new is told by trained_on, so that scored must be all there is.
    """
    found: list[Drift] = []
    steps: dict[str, list[Scored]] = {}
    for each in scored:
        steps.setdefault(each.usage.identity.node, []).append(each)
    for step, all_of_it in steps.items():
        before, recent = all_of_it[:-RECENT], all_of_it[-RECENT:]
        failed = float(np.mean([s.failures > 0 for s in recent]))
        wasted = float(np.mean([s.relative_wastage for s in recent]))
        usual = float(np.median([s.relative_wastage for s in before])) if before else None
        if len(recent) >= RECENT and failed > FAILED_RATIO:
            found.append(Drift(step=step, reason=f"{failed:.0%} of newest attempts ran short"))
        elif usual is not None and wasted > ERROR_FACTOR * usual + ERROR_ADDED:
            found.append(
                Drift(step=step, reason=f"wastage {wasted:.2f} of the need, {usual:.2f} before")
            )
        level = None if trained_at is None else _level(all_of_it, trained_at)
        if level is not None and not 1 / LEVEL_RATIO <= level <= LEVEL_RATIO:
            found.append(Drift(step=step, reason=f"needs {level:.1f} times what it did"))
        versions = {s.usage.code_version for s in recent if s.usage.code_version}
        if code_versions and versions - set(code_versions):
            found.append(Drift(step=step, reason=f"new code version {sorted(versions)[-1]!r}"))
    new = len(scored) - trained_on
    if trained_at is not None:  # scored may be the newest attempts only
        new = sum(each.usage.ended_at > trained_at for each in scored)
    if trained_on and new >= NEW_ATTEMPTS:
        found.append(Drift(step="", reason=f"{new} new attempts"))
    return found


def _level(scored: Sequence[Scored], trained_at: datetime) -> float | None:
    """Returns the newest peaks' median over that of the newest trained on, or None if too few."""
    known = [
        s.usage.measurement.peak_memory_bytes for s in scored if s.usage.ended_at <= trained_at
    ]
    new = [s.usage.measurement.peak_memory_bytes for s in scored if s.usage.ended_at > trained_at]
    if not known or len(new) < LEVEL_ATTEMPTS:
        return None
    return float(np.median(new[-LEVEL_ATTEMPTS:]) / max(1.0, np.median(known[-RECENT:])))
