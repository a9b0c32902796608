"""What the predictive scaling engine has published for a step: its champion's closed-form state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cu_market.domain.request import StepIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One row of published forecasts.

    Attributes:
        identity: the step; an empty node stands for every step of the code location.
        model: which model and version it came from: ``flights@3``.
        published_at: aware UTC.
        state: JSON-ready; pse.champion reads and writes it.
    """

    identity: StepIdentity
    model: str
    published_at: datetime
    state: Mapping[str, Any] = field(default_factory=dict)
