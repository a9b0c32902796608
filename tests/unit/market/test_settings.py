"""What is wrong with the market's settings is said at once, each with a remedy."""

from __future__ import annotations

import pytest

from cu_market.domain.problem import InvalidInputError
from cu_market.market.settings import parse_settings


def problems_of(config: dict[str, object]) -> list[str]:
    with pytest.raises(InvalidInputError) as raised:
        parse_settings(config, "market")
    return [str(problem) for problem in raised.value.problems]


def test_a_misspelt_setting_offers_the_nearest() -> None:
    (said,) = problems_of({"on_market_failre": "native"})
    assert said == (
        "market.on_market_failre='native': no such setting; did you mean on_market_failure?"
    )


def test_a_deadlines_confidence_is_a_share() -> None:
    assert parse_settings({}, "market").deadline_confidence_permille == 950
    for wrong in (0.4, 1, float("nan")):
        (said,) = problems_of({"deadline_confidence": wrong})
        assert said.startswith("market.deadline_confidence='")
        assert said.endswith("docs/configuration.md has its values")


def test_settings_and_providers_are_wrong_together() -> None:
    said = problems_of(
        {
            "solve_seconds": float("nan"),
            "defaults": {"cpu": 0},
            "providers": {"local": {"coers": 2}, "other": {"kind": "nobody"}},
        }
    )
    assert len(said) == 4
    for part in ("market.solve_seconds='nan'", "market.defaults.cpu='0'", "coers", "nobody"):
        assert any(part in each for each in said), (part, said)
    assert not any("Value error" in each for each in said)
