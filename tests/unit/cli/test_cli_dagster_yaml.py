"""A dagster.yaml that cannot be read, or does not mean what it seems to, is said to be so."""

from __future__ import annotations

from pathlib import Path

import pytest

from cu_market.cli.dagster_yaml import check_dagster_yaml
from cu_market.domain.problem import InvalidInputError

LAUNCHER = "run_launcher:\n  module: cu_market\n  class: MarketRunLauncher\n  config:\n"


def problems_of(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "dagster.yaml"
    path.write_text(text)
    try:
        check_dagster_yaml(path)
    except InvalidInputError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.mark.parametrize(
    "text", ["", "telemetry: {enabled: false}\n", LAUNCHER + "    market: {}\n"]
)
def test_what_is_right_is_passed(tmp_path: Path, text: str) -> None:
    assert problems_of(tmp_path, text) == []


def test_what_is_no_yaml_is_said_with_its_place(tmp_path: Path) -> None:
    (said,) = problems_of(tmp_path, "run_launcher: [bad")
    assert "dagster.yaml=" in said
    assert "cannot be read" in said
    assert "line 1" in said


def test_two_providers_with_one_name_are_not_one(tmp_path: Path) -> None:
    text = LAUNCHER + "    market:\n      providers:\n        local: {cores: 1}\n"
    (said,) = problems_of(tmp_path, text + "        local: {cores: 2}\n")
    assert "run_launcher.config.market.providers='local': 2 entries with one name" in said


def test_a_misspelt_market_is_not_passed_over(tmp_path: Path) -> None:
    (said,) = problems_of(tmp_path, LAUNCHER + "    markt: {}\n")
    assert "'markt': no such setting; did you mean market?" in said
