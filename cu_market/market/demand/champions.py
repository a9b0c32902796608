"""Who forecasts a run's steps: the champion that the predictive scaling engine has published."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from cu_market.domain.problem import InvalidInputError
from cu_market.ledger.interface import Ledger
from cu_market.pse.champion.state import ChampionForecaster, location_identity, read_state
from cu_market.pse.forecast import Forecaster
from cu_market.pse.models.forecaster import LearnedForecaster

logger = logging.getLogger(__name__)


def published_forecaster(ledger: Ledger, code_locations: Iterable[str]) -> Forecaster | None:
    """Returns the champions of these code locations as one forecaster, or None without any.

    A publication that cannot be read is logged and left out: a launch does not fail for it.
    """
    wanted = [location_identity(name) for name in sorted(set(code_locations))]
    champions: dict[str, Forecaster] = {}
    for identity, publication in ledger.published(wanted).items():
        try:
            state = read_state(publication.state)
        except InvalidInputError as error:
            extra = {"action": "read champion", "model": publication.model}
            logger.warning("a published model cannot be read: %s", error, extra=extra)
            continue
        champions[identity.code_location] = state.forecaster()
    if not champions:
        return None
    return ChampionForecaster(champions=champions, default=LearnedForecaster())
