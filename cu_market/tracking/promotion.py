"""Who is champion: promoted by alias and published to the ledger, and sent back again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cu_market.domain.publication import Publication
from cu_market.domain.usage import Usage
from cu_market.ledger.interface import Ledger
from cu_market.pse.champion.evaluation import Comparison, compare, score_all
from cu_market.pse.champion.state import location_identity
from cu_market.tracking.registry import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    ModelVersion,
    NoSuchModelError,
    Registry,
)

LIVE_ATTEMPTS = 5
"""Attempts under a new champion before it can be sent back by itself."""


SHADOW_ATTEMPTS = 12
"""Attempts that a challenger is scored on, beside the champion that sized them, before it can take
over: it is looked at every half minute, and few attempts are soon lucky."""


def promote(registry: Registry, ledger: Ledger, version: int, *, now: datetime) -> ModelVersion:
    """Makes a version champion, and publishes it: the next launch uses it.

    Raises:
        NoSuchModelError: there is no such version.
    """
    chosen = registry.version(version)
    aliases = registry.aliases()
    before = aliases.get(CHAMPION)
    if before is not None and before != version:
        aliases[PREVIOUS] = before
    aliases[CHAMPION] = version
    if aliases.get(CHALLENGER) == version:
        del aliases[CHALLENGER]
    registry.set_aliases(aliases)
    publish(ledger, chosen, now=now)
    return chosen


def rollback(registry: Registry, ledger: Ledger, *, now: datetime) -> ModelVersion:
    """Makes the champion before this one champion again.

    Raises:
        NoSuchModelError: there was none.
    """
    previous = registry.aliases().get(PREVIOUS)
    if previous is None:
        raise NoSuchModelError(
            f"code location {registry.location!r} has had no champion before the present one; "
            "promote a version: cu-market pse promote VERSION"
        )
    sent_back = registry.aliases().get(CHAMPION)
    chosen = registry.version(previous)
    aliases = {k: v for k, v in registry.aliases().items() if k not in (PREVIOUS, CHALLENGER)}
    aliases[CHAMPION] = previous
    if sent_back is not None:
        aliases["rolled_back"] = sent_back
    registry.set_aliases(aliases)
    publish(ledger, chosen, now=now)
    return chosen


def publish(ledger: Ledger, version: ModelVersion, *, now: datetime) -> None:
    """Writes a version's state to the ledger, where launches read it."""
    ledger.publish(
        [
            Publication(
                identity=location_identity(version.location),
                model=version.name,
                published_at=now,
                state=version.state.to_record(),
            )
        ]
    )


def live_comparison(
    registry: Registry, ledger: Ledger, usages: Sequence[Usage]
) -> Comparison | None:
    """Returns the champion against the one before it, on what ran since it was promoted.

    None where there was none before, or too little has run since.
    """
    champion, previous = registry.alias(CHAMPION), registry.alias(PREVIOUS)
    published = ledger.published([location_identity(registry.location)])
    if champion is None or previous is None or not published:
        return None
    found = _compared(previous, champion, usages, next(iter(published.values())).published_at)
    return found if found.attempts >= LIVE_ATTEMPTS else None


def shadow_comparison(registry: Registry, usages: Sequence[Usage]) -> Comparison | None:
    """Returns the challenger against the champion, on what ran since the challenger was trained.

    It sized none of it: each step is scored as it would have been sized. None where there is no
    challenger, or too little has run since.
    """
    champion, challenger = registry.alias(CHAMPION), registry.alias(CHALLENGER)
    if champion is None or challenger is None or champion.version == challenger.version:
        return None
    found = _compared(champion, challenger, usages, challenger.created_at)
    return found if found.attempts >= SHADOW_ATTEMPTS else None


def _compared(
    older: ModelVersion, newer: ModelVersion, usages: Sequence[Usage], since: datetime
) -> Comparison:
    """Returns one version against another on what has started since; before it is history."""
    older_scored, newer_scored = (
        [s for s in score_all(version.state.forecaster(), usages) if s.usage.started_at >= since]
        for version in (older, newer)
    )
    return compare(older_scored, newer_scored)


def is_worse(found: Comparison) -> bool:
    """Whether the newer is worse beyond doubt."""
    return found.low > 0
