"""What is known of a step's work before it begins, beside the bytes of its inputs."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SECRET_WORDS = frozenset(
    {"account", "auth", "apikey", "card", "cookie", "credential", "credentials", "dsn", "iban"}
    | {"key", "keys", "otp", "pass", "passcode", "passphrase", "passwd", "password", "passwords"}
    | {"pin", "pwd", "secret", "secrets", "signature", "ssn", "token", "tokens"}
)
"""Words of names under which a config's value is not even looked at."""

_WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")

MOST_NUMBERS = 20
"""A config with more numbers is cut: which of them matters could not be told."""

DIGEST_LENGTH = 4
"""Characters kept of the digest: enough to tell a step's configs apart, too few to confirm a guess
at what is in them: one in 65,536 guesses is right by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFeatures:
    """A step's features.

    Attributes:
        input_rows: of its inputs, as upstream said them (``dagster/row_count``), or None.
        upstream_keys: how many mapped outputs a fan-in gathers, or None where it gathers none.
        config: its config's numbers by dotted name, sorted by it.
        config_digest: of everything else in its config, or empty without any.
    """

    input_rows: int | None = None
    upstream_keys: int | None = None
    config: tuple[tuple[str, float], ...] = ()
    config_digest: str = ""

    @property
    def amounts(self) -> Mapping[str, float]:
        """Everything that may drive what a step needs, by its name in words."""
        said = {"input rows": self.input_rows, "upstream keys": self.upstream_keys}
        found = {name: float(value) for name, value in said.items() if value is not None}
        return found | {f"config {name}": value for name, value in self.config}

    def to_record(self) -> dict[str, Any]:
        """Returns the features that are known, ready for JSON."""
        record = {
            "input_rows": self.input_rows,
            "upstream_keys": self.upstream_keys,
            "config": dict(self.config),
            "config_digest": self.config_digest,
        }
        return {name: value for name, value in record.items() if value not in (None, {}, "")}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> StepFeatures:
        """Returns the features of a record; the other way of to_record."""
        config = sorted((str(k), float(v)) for k, v in record.get("config", {}).items())
        return cls(
            input_rows=record.get("input_rows"),
            upstream_keys=record.get("upstream_keys"),
            config=tuple(config),
            config_digest=record.get("config_digest", ""),
        )


NO_FEATURES = StepFeatures()


def features_of_config(config: object) -> StepFeatures:
    """Returns what a step's config tells: its numbers as they are, a list by its length, all else
    as a short digest.

    Args:
        config: as the run's config has it: nested mappings, lists and scalars.
    """
    numbers: dict[str, float] = {}
    others: list[tuple[str, str]] = []
    for name, value in _leaves(config, ""):
        number = _finite(value)
        if number is None:
            others.append((name, str(value)))
        else:
            numbers[name] = number
    text = json.dumps(sorted(others))
    digest = hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH] if others else ""
    return StepFeatures(config=tuple(sorted(numbers.items())[:MOST_NUMBERS]), config_digest=digest)


def _leaves(value: object, name: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        if set(value) == {"env"}:
            return  # Dagster's EnvVar: the value is not in the config, and not wanted
        for key, inner in value.items():
            if not _is_secret(str(key)):
                yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        yield (f"{name} items" if name else "items"), len(value)
        for place, inner in enumerate(value):
            yield from ((n, v) for n, v in _leaves(inner, f"{name}[{place}]") if not _is_number(v))
    elif value is not None:
        yield name, value


def _is_secret(key: str) -> bool:
    return any(word.lower() in SECRET_WORDS for word in _WORDS.findall(key))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(value: object) -> float | None:
    """Returns a number that JSON has a word for, None for everything else."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None
