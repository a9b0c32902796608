"""What the commands print, over a ledger in memory; the documents that describe them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cu_market.cli.deployment import find_run
from cu_market.cli.exits import (
    MEANINGS,
    CommandError,
    ExitCode,
    NothingFoundError,
    exit_code_of,
    lines_of,
)
from cu_market.cli.explain import explain_document, explain_tables
from cu_market.cli.homes import MARKER, find_home, locked, prepare_demo_home
from cu_market.cli.rows import ledger_document, parse_states
from cu_market.domain.allocation import AllocationState
from cu_market.domain.auction import Auction
from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.ledger.errors import LedgerError
from cu_market.ledger.memory import InMemoryLedger
from cu_market.market.settings import DefaultSize, MarketSettings
from cu_market.ral.local.config import LocalConfig, TariffConfig

DOCS = Path(__file__).parents[3] / "docs"


def make_ledger() -> InMemoryLedger:
    ledger = InMemoryLedger()
    loss = {
        "provider": "local",
        "resource_id": "local/standard",
        "reason": "dearer",
        "detail": "$0.000002 dearer",
        "total_cost_usd": 0.00001,
    }
    steps = [
        {
            "step": name,
            "cpu_cores": 1.0,
            "memory_gb": 1.0,
            "gpu_count": 0,
            "gpu_type": None,
            "reason": "default",
            "sizing": "default",
            "winner": {
                "resource_id": "local/economy",
                "price_per_hour": 0.1,
                "start_seconds": 0.0,
                "expected_seconds": 1.0,
                "expected_cost_usd": 0.00001,
                "total_cost_usd": 0.00001,
            },
            "runner_up": loss,
            "losses": [loss],
        }
        for name in ("load", "work[?]")
    ]
    for run_id in ("aaaa1111", "aaaa2222", "bbbb3333"):
        ledger.record_auction(
            Auction(
                auction_id=f"of-{run_id}",
                run_id=run_id,
                held_at=datetime(2026, 1, 1, tzinfo=UTC),
                mode="market",
                place="launcher",
                report={
                    "steps": steps,
                    "bids": [],
                    "problems": [],
                    "expected_cost_usd": 0.00002,
                    "seconds": 0.1,
                    "solver": {"name": "HiGHS", "gap_ratio": 0.0, "is_cut": False},
                },
            ),
            [],
        )
    return ledger


def test_a_run_is_found_by_the_beginning_of_its_id_if_no_other_begins_so() -> None:
    ledger = make_ledger()
    assert find_run(ledger, "bb") == "bbbb3333"
    assert find_run(ledger, "aaaa2222") == "aaaa2222"
    with pytest.raises(NothingFoundError, match="aaaa1111, aaaa2222: write more"):
        find_run(ledger, "aaaa")
    with pytest.raises(NothingFoundError, match="no auction of it; the newest are"):
        find_run(ledger, "cc")
    with pytest.raises(NothingFoundError, match="none yet"):
        find_run(InMemoryLedger(), "last")


def test_explain_shows_one_step_with_who_lost_and_why() -> None:
    document = explain_document(make_ledger(), "bbbb3333", "load")
    assert [step["step"] for step in document["auctions"][0]["steps"]] == ["load"]
    assert len(explain_tables(document)) == 2


def test_a_mapped_step_is_explained_by_its_template() -> None:
    document = explain_document(make_ledger(), "bbbb3333", "work[x]")
    assert [step["step"] for step in document["auctions"][0]["steps"]] == ["work[?]"]


def test_an_unknown_step_or_run_is_nothing_found_and_says_what_there_is() -> None:
    with pytest.raises(NothingFoundError, match=r"did you mean load\? It has load, work\[\?\]"):
        explain_document(make_ledger(), "bbbb3333", "lod")
    with pytest.raises(NothingFoundError, match="no auction"):
        explain_document(make_ledger(), "zzzz", None)


def test_states_are_read_in_any_case_and_every_wrong_one_is_named() -> None:
    assert parse_states(["settled", "LEASED"]) == [AllocationState.SETTLED, AllocationState.LEASED]
    assert parse_states([]) is None
    with pytest.raises(InvalidInputError) as caught:
        parse_states(["x", "y"])
    assert [problem.value for problem in caught.value.problems] == ["x", "y"]


def test_an_empty_ledger_has_no_rows() -> None:
    found = ledger_document(InMemoryLedger(), run_id=None, states=[], limit=5)
    assert found == {"allocations": []}


def test_errors_become_exit_codes_and_a_line_a_problem() -> None:
    problems = [Problem(where="a", value="1", what="bad", remedy="mend")] * 2
    assert exit_code_of(InvalidInputError(problems)) is ExitCode.BAD_INPUT
    assert len(lines_of(InvalidInputError(problems))) == 2
    assert exit_code_of(LedgerError("x")) is ExitCode.LEDGER
    assert exit_code_of(NothingFoundError("x")) is ExitCode.NOTHING_FOUND
    assert exit_code_of(CommandError("x")) is ExitCode.FAILED
    assert exit_code_of(KeyboardInterrupt()) is ExitCode.INTERRUPTED


def test_the_page_on_the_command_line_has_every_exit_code() -> None:
    page = (DOCS / "cli.md").read_text()
    for code, meaning in MEANINGS.items():
        assert f"| {int(code)} | {meaning} |" in page


@pytest.mark.parametrize("model", [MarketSettings, DefaultSize, LocalConfig, TariffConfig])
def test_the_page_on_configuration_has_every_setting(model: type[MarketSettings]) -> None:
    page = (DOCS / "configuration.md").read_text()
    written = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert set(model.model_fields) <= written


def test_a_demo_home_is_emptied_only_if_it_is_one(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    home = prepare_demo_home(tmp_path, is_fresh=True)
    assert (home / "dagster.yaml").read_text() == "telemetry: {enabled: false}\n"
    (home / "storage").mkdir()
    prepare_demo_home(tmp_path, is_fresh=False)
    assert (home / "storage").is_dir()
    prepare_demo_home(tmp_path, is_fresh=True)
    assert not (home / "storage").exists()
    (home / MARKER).unlink()
    with pytest.raises(InvalidInputError, match="not a demo's"):
        prepare_demo_home(tmp_path, is_fresh=True)
    assert (home / "dagster.yaml").is_file()


def test_a_home_in_use_is_not_emptied(tmp_path: Path) -> None:
    home = prepare_demo_home(tmp_path, is_fresh=True)
    with locked(home), pytest.raises(CommandError, match="in use by another"):
        prepare_demo_home(tmp_path, is_fresh=True)


def test_the_home_is_the_chosen_or_the_variables_or_the_demos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with pytest.raises(InvalidInputError, match=r"DAGSTER_HOME='': not set, and .* does not exist"):
        find_home(None)
    monkeypatch.setenv("DAGSTER_HOME", "nowhere")
    with pytest.raises(InvalidInputError, match="DAGSTER_HOME='nowhere': not a directory"):
        find_home(None)
    monkeypatch.delenv("DAGSTER_HOME")
    demo = prepare_demo_home(tmp_path / "dagster_home", is_fresh=True)
    assert find_home(None) == demo
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").touch()
    assert find_home(None) == tmp_path
    assert find_home(str(demo)) == demo
