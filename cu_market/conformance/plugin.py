"""A pytest plugin that names the provider to test.

``pytest -p cu_market.conformance.plugin --pyargs cu_market.conformance.configured
--cu-market-provider NAME --cu-market-options '{"kind": "my_package:MyProvider"}'``;
``cu-market provider test NAME`` does it with the options of a deployment's configuration.

It is named, not loaded by itself: nobody's pytest should change because cu_market is installed.
"""

from __future__ import annotations

import pytest

ASSERTING = ("offers", "workers", "runs")
"""Modules of the suite: their assertions tell what was compared."""

pytest.register_assert_rewrite(*(f"cu_market.conformance.{name}" for name in ASSERTING))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options."""
    group = parser.getgroup("cu_market", "the provider that cu_market.conformance.configured tests")
    group.addoption("--cu-market-provider", metavar="NAME", help="what the provider is called")
    group.addoption(
        "--cu-market-options",
        metavar="JSON",
        default="",
        help='its options as configured; left out: {"kind": NAME}',
    )
    group.addoption(
        "--cu-market-ledger",
        metavar="JSON",
        default="",
        help="where the ledger is that carries to its workers, as ledger_url is written, if it "
        "reaches them through the database; the suite's runs are then kept there",
    )
