"""What the ledger knows that bears on a run's steps: their own past, and whose they may borrow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cu_market.domain.request import StepIdentity
from cu_market.domain.usage import Ending, Usage
from cu_market.ledger.interface import Ledger
from cu_market.pse.partitions import is_thin, with_neighbours

LENT = 400
"""Newest attempts of a code location that a step without a past may borrow from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What is known before a run is sized.

    Attributes:
        history: attempts of each step, newest first; where a partition has few of its own, other
            partitions' after them, the nearest first. Steps without any are left out.
        lent: newest attempts of each code location of which some step has never ended well.
        running_ms: for how long attempts of a step have been running in this very run.
    """

    history: Mapping[StepIdentity, Sequence[Usage]] = field(default_factory=dict)
    lent: Mapping[str, Sequence[Usage]] = field(default_factory=dict)
    running_ms: Mapping[StepIdentity, Sequence[float]] = field(default_factory=dict)

    def of(self, identity: StepIdentity) -> Sequence[Usage]:
        """Returns a step's attempts."""
        return self.history.get(identity, ())

    def lent_to(self, identity: StepIdentity) -> Sequence[Usage]:
        """Returns what a step without a past may borrow from."""
        return self.lent.get(identity.code_location, ())


def read_past(
    ledger: Ledger, identities: Iterable[StepIdentity], *, is_borrowing: bool = True
) -> Past:
    """Returns what bears on these steps: one query, and one more for each lack.

    Args:
        ledger: whose.
        identities: the steps.
        is_borrowing: whether steps without a past may borrow: what they could is read then.
    """
    wanted = set(identities)
    history = dict(ledger.history(wanted))
    thin = {each for each in wanted if is_thin(each, history.get(each, ()))}
    others = ledger.relatives(thin) if thin else {}
    for identity in thin:
        near = others.get(replace(identity, partition=""), ())
        if found := with_neighbours(identity, history.get(identity, ()), near):
            history[identity] = found
    lacking = {
        each.code_location
        for each in wanted
        if is_borrowing and not _has_ended(history.get(each, ()))
    }
    lent = {name: ledger.usages(code_location=name, limit=LENT) for name in sorted(lacking)}
    return Past(history=history, lent=lent)


def _has_ended(history: Sequence[Usage]) -> bool:
    return any(usage.ending is Ending.OK and not usage.external for usage in history)
