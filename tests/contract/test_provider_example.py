"""The example of a third party's provider keeps the contract, as its page says."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cu_market.conformance.suite import ProviderConformance
from cu_market.conformance.tested import Configured
from cu_market.conformance.told_worker import tell
from cu_market.domain.problem import InvalidInputError
from cu_market.ral.provider import Provider
from cu_market.ral.registry import load_providers

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(1200),
    # Dagster reads its config classes in a way that pydantic has deprecated.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
KIND = "pinned_provider:PinnedProvider"
CORE = max(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if it were installed, here and in the processes that the suite starts."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES))
    yield
    sys.modules.pop("pinned_provider", None)


class TestPinnedProvider(ProviderConformance):
    configured = Configured(name="pinned", options={"kind": KIND, "cores": [CORE]})

    def test_workers_and_all_they_start_are_on_its_cores(
        self, starting: Provider, starter: str
    ) -> None:
        worker = starting.start(self.launch_on(starting, starter=starter))
        child = int(tell(worker, "session"))
        assert os.sched_getaffinity(child) == {CORE}
        worker.close()
        starting.stop(worker.holder)
        assert worker.exit_code() is not None


def test_all_that_is_wrong_with_its_configuration_is_said_at_once() -> None:
    with pytest.raises(InvalidInputError) as caught:
        load_providers({"pinned": {"kind": KIND, "cores": [10**6], "memory": "much"}})
    assert len(caught.value.problems) == 2


def test_it_is_short_enough_to_be_read() -> None:
    assert len((EXAMPLES / "pinned_provider.py").read_text().splitlines()) < 150
