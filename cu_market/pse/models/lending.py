"""What processes without a history borrow from others: how far peaks are from what was asked for.

A lender is another process: of the same trace or code location, or of traces learned from before.
It lends up to RECORDS ratios of peak to preset. For a task of preset m with input x,

    weight_j = share_j exp(-|log m/m_j| - min(|log x/x_j| / 3, 4)) (1 + 100 s^2)

with s the Jaccard similarity of the names' letter trigrams, and share_j the record's part of its
trace's requested byte-hours: a rule that is right for the heavy processes is right. Each ratio is
spread by a lognormal whose width falls with s, clipped at the preset, and a little is laid evenly
over all ratios.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from cu_market.pse.ladder.program import Floats

RECORDS = 24
"""Ratios that a lender lends at most."""

NAME_GAIN = 100.0
BYTES_SCALE, BYTES_MOST = 3.0, 4.0
STRANGER_WIDTH, NAMESAKE_WIDTH = 0.3, 0.2
"""Standard deviation of the logarithm of a ratio lent by an unlike and by a like name."""

EVEN_RECORDS = 30.0
"""How many records the even share counts as."""

OWN_TRACE = 2.0
"""How much all lenders of the same trace weigh; each other trace weighs 1."""

EVEN_RATIOS = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
_NORMAL_POINTS = np.array([-1.2816, -0.5244, 0.0, 0.5244, 1.2816])
"""Five points of equal mass of the standard normal distribution."""


def trigrams(process: str) -> frozenset[str]:
    """Returns the letter trigrams of a name's last component, its ends marked."""
    name = f"^{process.rsplit(':', 1)[-1].rsplit('/', 1)[-1].lower()}$"
    return frozenset(name[place : place + 3] for place in range(len(name) - 2))


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Returns Jaccard's measure of two sets, 0 to 1."""
    union = len(one | other)
    return len(one & other) / union if union else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lender:
    """One process's records.

    Attributes:
        process: its name.
        names: its trigrams.
        log_ratio, log_x, log_preset: of each record, shape (k,), k <= RECORDS.
        weight: requested byte-hours of all its tasks.
    """

    process: str
    names: frozenset[str]
    log_ratio: Floats
    log_x: Floats
    log_preset: Floats
    weight: float


def lender_of(process: str, peaks: Floats, x: Floats, presets: Floats, requested: float) -> Lender:
    """Returns a process's lender: RECORDS of its tasks, evenly spaced by their ratio."""
    ratio = np.log(peaks / presets)
    order = np.argsort(ratio, kind="stable")
    if len(order) > RECORDS:
        order = order[np.linspace(0, len(order) - 1, RECORDS).round().astype(np.intp)]
    return Lender(
        process=process,
        names=trigrams(process),
        log_ratio=ratio[order],
        log_x=np.log(x[order]),
        log_preset=np.log(presets[order]),
        weight=requested,
    )


@dataclass(slots=True)
class Lenders:
    """Everybody who lends, flat, for one sweep per question.

    Attributes:
        elsewhere: lenders of other traces, a list a trace.
    """

    elsewhere: Sequence[Sequence[Lender]] = ()
    _own: dict[str, Lender] = field(default_factory=dict)
    _similar: dict[str, dict[str, float]] = field(default_factory=dict)
    _flat: tuple[Floats, Floats, Floats, Floats, list[Lender], list[int]] | None = None

    def update(self, lender: Lender) -> None:
        """Takes a process of the same trace, or its newer records."""
        self._own[lender.process] = lender
        self._flat = None

    def own(self) -> list[Lender]:
        """Returns the processes of the same trace."""
        return list(self._own.values())

    def borrow(
        self, process: str, preset_bytes: float, x: float, *, even_bytes: float | None = None
    ) -> tuple[Floats, Floats]:
        """Returns bytes and their masses (sum 1) for a process without a history.

        Args:
            process: its name.
            preset_bytes: what its author asked for: nothing above it is foreseen.
            x: input bytes, positive.
            even_bytes: the even share is laid up to this; up to the preset unless given.
        """
        even_values = EVEN_RATIOS * (preset_bytes if even_bytes is None else even_bytes)
        even_mass = np.full(len(EVEN_RATIOS), 1 / len(EVEN_RATIOS))
        log_ratio, log_x, log_preset, share, lenders, sizes = self._flatten()
        if not lenders:
            return even_values, even_mass
        likeness = np.repeat([self._likeness(process, each) for each in lenders], sizes)
        own = np.repeat([each.process != process for each in lenders], sizes)
        weight = (
            share
            * own
            * np.exp(
                -np.abs(math.log(preset_bytes) - log_preset)
                - np.minimum(np.abs(math.log(x) - log_x) / BYTES_SCALE, BYTES_MOST)
            )
        )
        weight *= 1 + NAME_GAIN * likeness**2
        total = float(weight.sum())
        if total <= 0:
            return even_values, even_mass
        weight /= total
        even = EVEN_RECORDS / (EVEN_RECORDS + 1 / float((weight * weight).sum()))
        width = STRANGER_WIDTH + (NAMESAKE_WIDTH - STRANGER_WIDTH) * likeness
        spread = log_ratio + _NORMAL_POINTS[:, None] * width
        values = preset_bytes * np.exp(np.minimum(spread.ravel(), 0.0))
        masses = np.tile(weight * ((1 - even) / len(_NORMAL_POINTS)), len(_NORMAL_POINTS))
        return (
            np.concatenate([values, even_values]),
            np.concatenate([masses, even_mass * even]),
        )

    def _likeness(self, process: str, lender: Lender) -> float:
        known = self._similar.setdefault(process, {})
        if lender.process not in known:
            known[lender.process] = similarity(trigrams(process), lender.names)
        return known[lender.process]

    def _flatten(self) -> tuple[Floats, Floats, Floats, Floats, list[Lender], list[int]]:
        if self._flat is None:
            groups: list[tuple[float, Iterable[Lender]]] = [
                (OWN_TRACE, self._own.values()),
                *((1.0, each) for each in self.elsewhere),
            ]
            lenders: list[Lender] = []
            shares: list[Floats] = []
            for gain, group in groups:
                members = list(group)
                total = sum(each.weight for each in members) or 1.0
                lenders += members
                shares += [
                    np.full(len(m.log_x), gain * m.weight / total / len(m.log_x)) for m in members
                ]
            empty = np.empty(0)
            self._flat = (
                np.concatenate([empty, *(each.log_ratio for each in lenders)]),
                np.concatenate([empty, *(each.log_x for each in lenders)]),
                np.concatenate([empty, *(each.log_preset for each in lenders)]),
                np.concatenate([empty, *shares]),
                lenders,
                [len(each.log_x) for each in lenders],
            )
        return self._flat
