"""A trained model as closed-form state: a family and its parameters, in JSON, with a digest.

Nothing is pickled: whoever reads a state can only get numbers out of it, and the launch path needs
no library to use it. The steps' own histories are not part of the state: they are read as they
stand, so that each run has learned from the one before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cu_market.domain.features import NO_FEATURES, StepFeatures
from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.domain.request import StepIdentity
from cu_market.domain.usage import Usage
from cu_market.pse.empirical import EmpiricalForecaster
from cu_market.pse.forecast import Forecast, Forecaster

EMPIRICAL, LEARNED = "empirical", "learned"
PARAMETERS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    EMPIRICAL: {
        "window": (1, 1000),
        "headroom_base_ratio": (-0.9, 10),
        "spread_share": (0, 10),
        "duration_base_ratio": (0, 10),
    },
    LEARNED: {"window": (1, 1000), "doubt": (0, 100), "width": (0, 2)},
}
"""Name and bounds of each parameter, by family."""

DEFAULT_PARAMETERS: Mapping[str, float] = {
    "window": 30,
    "headroom_base_ratio": 0.20,
    "spread_share": 0.5,
    "duration_base_ratio": 0.5,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """A trained model.

    Attributes:
        family: how parameters are used.
        parameters: its numbers.
        trained_on: attempts that it was trained on.
    """

    family: str = EMPIRICAL
    parameters: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_PARAMETERS))
    trained_on: int = 0

    def to_record(self) -> dict[str, Any]:
        """Returns the state ready for JSON."""
        return {
            "family": self.family,
            "parameters": {
                name: float(self.parameters[name]) for name in sorted(PARAMETERS[self.family])
            },
            "trained_on": self.trained_on,
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the record's canonical JSON."""
        text = json.dumps(self.to_record(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def forecaster(self) -> Forecaster:
        """Returns what forecasts with these parameters."""
        window = int(self.parameters["window"])
        if self.family == LEARNED:
            # Here, so that reading a state loads no numpy.
            from cu_market.pse.models.forecaster import LearnedForecaster

            learned = LearnedForecaster(
                doubt=self.parameters["doubt"], width=self.parameters["width"]
            )
            return StateForecaster(window=window, model=learned)
        empirical = EmpiricalForecaster(
            headroom_base_ratio=self.parameters["headroom_base_ratio"],
            spread_share=self.parameters["spread_share"],
            duration_base_ratio=self.parameters["duration_base_ratio"],
        )
        return StateForecaster(window=window, model=empirical)


def read_state(record: Mapping[str, Any], *, digest: str | None = None) -> ModelState:
    """Returns the state of a record.

    Args:
        record: as to_record gives it.
        digest: what it has to be, or None where nobody said.

    Raises:
        InvalidInputError: an unknown family, a parameter missing or out of bounds, another digest.
    """
    problems = []
    family = str(record.get("family"))
    if family not in PARAMETERS:
        problems.append(_problem("family", family, f"not one of {', '.join(PARAMETERS)}"))
    parameters = record.get("parameters")
    found: dict[str, float] = {}
    for name, (least, most) in PARAMETERS.get(family, {}).items():
        value = parameters.get(name) if isinstance(parameters, Mapping) else None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not least <= float(value or 0) <= most:
            problems.append(_problem(f"parameters.{name}", value, f"not {least:g} to {most:g}"))
        else:
            found[name] = float(value or 0)
    if problems:
        raise InvalidInputError(problems)
    state = ModelState(
        family=family, parameters=found, trained_on=int(record.get("trained_on") or 0)
    )
    if digest is not None and state.digest != digest:
        raise InvalidInputError([_problem("digest", state.digest, f"not {digest}")])
    return state


def _problem(where: str, value: object, what: str) -> Problem:
    remedy = "train the model anew, or publish the one before it: cu-market pse rollback"
    return Problem(where=f"model state: {where}", value=str(value), what=what, remedy=remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateForecaster:
    """Forecasts from the newest attempts alone.

    Attributes:
        window: how many attempts are looked at.
        model: what turns them into a forecast.
    """

    window: int
    model: Forecaster

    def forecast(
        self,
        identity: StepIdentity,
        history: Sequence[Usage],
        *,
        code_version: str | None = None,
        input_bytes: int | None = None,
        features: StepFeatures = NO_FEATURES,
        running_ms: Sequence[float] = (),
    ) -> Forecast | None:
        """Returns the forecast, or None where nothing is known. See Forecaster."""
        return self.model.forecast(
            identity,
            history[: self.window],
            code_version=code_version,
            input_bytes=input_bytes,
            features=features,
            running_ms=running_ms,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionForecaster:
    """Each code location's champion forecasts its steps; another where there is none.

    Attributes:
        champions: by code location.
        default: for everybody else.
    """

    champions: Mapping[str, Forecaster]
    default: Forecaster

    def forecast(
        self,
        identity: StepIdentity,
        history: Sequence[Usage],
        *,
        code_version: str | None = None,
        input_bytes: int | None = None,
        features: StepFeatures = NO_FEATURES,
        running_ms: Sequence[float] = (),
    ) -> Forecast | None:
        """Returns the location's champion's forecast. See Forecaster."""
        model = self.champions.get(identity.code_location, self.default)
        return model.forecast(
            identity,
            history,
            code_version=code_version,
            input_bytes=input_bytes,
            features=features,
            running_ms=running_ms,
        )


def location_identity(code_location: str) -> StepIdentity:
    """Returns the identity that a location's champion is published under."""
    return StepIdentity(code_location=code_location, node="")
