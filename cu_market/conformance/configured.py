"""The suite over the provider that pytest's command line names; see plugin."""

from __future__ import annotations

import json

import pytest

from cu_market.conformance.suite import ProviderConformance
from cu_market.conformance.tested import Configured

pytestmark = [
    # Dagster reads its config classes in a way that pydantic has deprecated.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]


class TestConfiguredProvider(ProviderConformance):
    """The provider of ``--cu-market-provider``."""

    @pytest.fixture(autouse=True)
    def _read_options(self, request: pytest.FixtureRequest) -> None:
        name = request.config.getoption("--cu-market-provider")
        if not name:
            pytest.fail("--cu-market-provider NAME is missing")
        said = request.config.getoption("--cu-market-options")
        options = json.loads(said) if said else {"kind": name}
        ledger = request.config.getoption("--cu-market-ledger")
        self.configured = Configured(
            name=name, options=options, ledger=json.loads(ledger) if ledger else None
        )
