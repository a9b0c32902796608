"""The providers of this package keep what every provider must."""

from __future__ import annotations

import pytest

from cu_market.conformance.offers import OffersConformance
from cu_market.conformance.suite import ProviderConformance
from cu_market.conformance.tested import Configured

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(1200),
    # Dagster reads its config classes in a way that pydantic has deprecated.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]


class TestLocalProvider(ProviderConformance):
    configured = Configured(name="local", options={"kind": "local"})


class TestLocalProviderUnderAnotherName(OffersConformance):
    configured = Configured(
        name="spare",
        options={
            "kind": "local",
            "cores": 1,
            "tariffs": [{"name": "only", "core_usd_per_hour": 0.01, "gb_usd_per_hour": 0.01}],
        },
    )
