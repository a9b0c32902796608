"""A process's completed tasks, the newest WINDOW of them, in arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from cu_market.pse.ladder.program import Floats
from cu_market.pse.models.experts import COUNT

WINDOW = 250
"""Tasks that are remembered. 20 figures of 8 bytes each: 40 kB a process, however many ran."""

FIRST_LOSS = 0.3
"""Loss of every expert on a process's first task, which none of them could foresee."""


def _figures() -> Floats:
    return np.empty(0)


def _losses() -> Floats:
    return np.empty((0, COUNT))


@dataclass(slots=True, kw_only=True)
class History:
    """Samples, oldest first, each array's first dimension n <= WINDOW.

    Attributes:
        x: input bytes, at least 1.
        peaks: bytes.
        runtimes: milliseconds plus 1, so that none is 0.
        presets: what was asked for, bytes.
        memory_losses, runtime_losses: each expert's loss on the sample before it had seen it,
            shape (n, COUNT).
        total: how many tasks ever completed.
        requested: byte-milliseconds that all of them asked for.
    """

    x: Floats = field(default_factory=_figures)
    peaks: Floats = field(default_factory=_figures)
    runtimes: Floats = field(default_factory=_figures)
    presets: Floats = field(default_factory=_figures)
    memory_losses: Floats = field(default_factory=_losses)
    runtime_losses: Floats = field(default_factory=_losses)
    total: int = 0
    requested: float = 0.0

    def __len__(self) -> int:
        return len(self.x)

    @property
    def nbytes(self) -> int:
        """Bytes that the arrays take."""
        return sum(
            each.nbytes
            for each in (
                self.x,
                self.peaks,
                self.runtimes,
                self.presets,
                self.memory_losses,
                self.runtime_losses,
            )
        )

    def add(
        self,
        x: float,
        peak: float,
        runtime: float,
        preset: float,
        memory_loss: Floats,
        runtime_loss: Floats,
    ) -> None:
        """Takes in one task and forgets the oldest where there are more than WINDOW."""
        self.x = np.append(self.x, x)[-WINDOW:]
        self.peaks = np.append(self.peaks, peak)[-WINDOW:]
        self.runtimes = np.append(self.runtimes, runtime)[-WINDOW:]
        self.presets = np.append(self.presets, preset)[-WINDOW:]
        self.memory_losses = np.vstack([self.memory_losses, memory_loss])[-WINDOW:]
        self.runtime_losses = np.vstack([self.runtime_losses, runtime_loss])[-WINDOW:]
        self.total += 1
        self.requested += (runtime + 1000) * preset  # a second more: no task weighs nothing

    def largest_credible_peak(self, x: float) -> float:
        """Returns the most that an expert may foresee at x.

        1.05 ymax exp(max(0, log(x / xmax)) / 4): beyond the inputs seen, growth by the fourth root
        is believed; lines drawn through little would promise anything.
        """
        beyond = max(0.0, math.log(x / float(self.x.max())))
        return 1.05 * float(self.peaks.max()) * math.exp(0.25 * beyond)
