"""When a run ends by its plan: in half of all cases, and in as many as it asked to be sure of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """A run's end by a plan; milliseconds after the auction's time.

    Attributes:
        deadline_ms: of the run.
        confidence_permille: in how many of a thousand cases it is to be kept.
        planned_ms: when it ends where everything takes its expected time.
        median_ms: in half of all cases it has ended by then.
        confident_ms: and by then in as many as were asked for.
        kept_permille: in so many cases the deadline is kept.
    """

    deadline_ms: int
    confidence_permille: int
    planned_ms: int
    median_ms: int
    confident_ms: int
    kept_permille: int

    @property
    def is_kept(self) -> bool:
        """Whether the deadline is kept in as many cases as were asked for."""
        return self.confident_ms <= self.deadline_ms

    def to_record(self) -> dict[str, Any]:
        """Returns it ready for JSON."""
        return {
            "seconds": self.deadline_ms / 1000,
            "confidence": self.confidence_permille / 1000,
            "finish_seconds_p50": self.median_ms / 1000,
            "finish_seconds_at_confidence": self.confident_ms / 1000,
            "kept_ratio": self.kept_permille / 1000,
            "is_kept": self.is_kept,
        }


def ends_words(record: Mapping[str, Any]) -> str:
    """Returns what an auction says of a run's deadline, in sentences that begin with a space; empty
    where it is certain by what is known."""
    half, sure = record["finish_seconds_p50"], record["finish_seconds_at_confidence"]
    if record["is_kept"] and half == sure:
        return ""
    share = f"{100 * record['confidence']:g} %"
    deadline = f"{record['seconds']:.1f} s"
    ends = f"ends by {half:.1f} s in half of all cases and by {sure:.1f} s in {share}"
    if record["is_kept"]:
        return f" With a deadline of {deadline}, it {ends}."
    return (
        f" It {ends}: its deadline of {deadline} is kept in {100 * record['kept_ratio']:.0f} % of "
        f"cases, fewer than the {share} that it is to be planned for."
    )
