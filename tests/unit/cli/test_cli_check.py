"""What `cu-market check` makes of what it finds: each kind of trouble has its words."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance

from cu_market.cli.checks.deployment import check_deployment, judge_skew
from cu_market.cli.checks.finding import Finding, Subject, Verdict
from cu_market.cli.checks.provider import Needs, check_provider, judge_answer
from cu_market.cli.checks.run import code_of, variables_in
from cu_market.deo.worker.probe import answer
from cu_market.market.settings import MarketSettings
from cu_market.ral.local.provider import LocalProvider

TOKEN = "told"
SUBJECT = Subject("there")


@pytest.fixture
def needs(tmp_path: Path) -> Needs:
    code = tmp_path / "pipeline.py"
    code.write_text("x = 1\n")
    return Needs(
        modules=("cu_market.examples.flights.definitions",),
        files=(str(code),),
        addresses=("127.0.0.1:1",),
        variables=("HOME", "A_VARIABLE_THAT_NOBODY_SETS"),
        storage=tmp_path / "storage",
    )


def found_there(needs: Needs, **changed: Any) -> dict[str, Any]:
    """Returns what a sound worker would answer, and what is changed of it."""
    asked = {"modules": needs.modules, "files": needs.files}
    return {**answer(asked), "shared": TOKEN, **changed}


def judged(needs: Needs, found: Mapping[str, Any], *, has_relay: bool = True) -> list[Finding]:
    return list(judge_answer(SUBJECT, found, needs, token=TOKEN, has_relay=has_relay))


def troubles(findings: list[Finding]) -> dict[str, Verdict]:
    return {f.check: f.verdict for f in findings if f.verdict is not Verdict.OK}


def test_a_worker_like_this_process_is_well(needs: Needs) -> None:
    assert troubles(judged(needs, found_there(needs))) == {}


@pytest.mark.parametrize("seconds", [90.0, -90.0])
def test_a_clock_that_is_ninety_seconds_off_is_named(seconds: float) -> None:
    finding = judge_skew(SUBJECT, "its clock", seconds)
    assert finding.verdict is Verdict.FAILED
    assert "90.0 s" in finding.found
    assert ("ahead" in finding.found) == (seconds > 0)
    assert "time server" in finding.remedy
    assert judge_skew(SUBJECT, "its clock", 10.0).verdict is Verdict.WARNING
    assert judge_skew(SUBJECT, "its clock", 0.1).verdict is Verdict.OK


def test_other_code_is_named_and_so_is_code_that_is_not_there(needs: Needs) -> None:
    (name,), (file,) = needs.modules, needs.files
    right = found_there(needs)
    other = {**right["sources"], name: "another", file: ""}
    said = {f.found: f for f in judged(needs, found_there(needs, sources=other))}
    assert any("another version" in words for words in said)
    assert f"{file} is not there" in said
    imports = {name: "ModuleNotFoundError: No module named 'pandas'"}
    (failed,) = [
        f for f in judged(needs, found_there(needs, imports=imports)) if f.verdict is Verdict.FAILED
    ]
    assert "pandas" in failed.found


@pytest.mark.parametrize("package", ["cu-market", "dagster"])
def test_other_versions_are_named(needs: Needs, package: str) -> None:
    versions = {**answer({})["versions"], package: "0.0.1"}
    (failed,) = [
        f
        for f in judged(needs, found_there(needs, versions=versions))
        if f.verdict is Verdict.FAILED
    ]
    assert failed.check == "versions"
    assert f"{package} 0.0.1, here" in failed.found


def test_another_patch_of_python_will_do_another_minor_will_not(needs: Needs) -> None:
    here = answer({})["python"].rpartition(".")[0]
    assert troubles(judged(needs, found_there(needs, python=f"{here}.99"))) == {}
    assert "versions" in troubles(judged(needs, found_there(needs, python="3.1.0")))


def test_a_database_out_of_reach_is_worse_without_a_relay(needs: Needs) -> None:
    found = found_there(needs, addresses={"db:5432": "TimeoutError: timed out"})
    assert troubles(judged(needs, found)) == {"database": Verdict.WARNING}
    assert troubles(judged(needs, found, has_relay=False)) == {"database": Verdict.FAILED}


def test_results_that_cannot_be_seen_and_variables_that_are_not_set(needs: Needs) -> None:
    found = found_there(needs, shared=None, missing_variables=["PASSWORD"])
    assert troubles(judged(needs, found)) == {
        "IO manager": Verdict.WARNING,
        "credentials": Verdict.WARNING,
    }


def test_a_real_worker_of_this_machine_is_asked(needs: Needs) -> None:
    findings = list(check_provider(LocalProvider.from_config("local", {}), needs))
    assert troubles(findings) == {"database": Verdict.WARNING, "credentials": Verdict.WARNING}
    told = {f.check: f.found for f in findings}
    assert "Connection refused" in told["database"] or "refused" in told["database"].lower()
    assert told["credentials"] == "not set there: A_VARIABLE_THAT_NOBODY_SETS"
    assert not list(needs.storage.iterdir())


class Silent(LocalProvider):
    """Its workers end before they answer."""

    def start(self, launch: Any) -> Any:
        return super().start(type(launch)(run_id="r", worker_key="k", arguments=("-c", "exit(3)")))


class Forbidden(LocalProvider):
    """Nobody may look at its pool."""

    def pool(self) -> Any:
        raise PermissionError("user 'dagster' cannot list resource 'nodes'")


def test_a_worker_that_ends_is_told_in_the_providers_words(needs: Needs) -> None:
    *_, last = check_provider(Silent.from_config("silent", {}), needs)
    assert (last.check, last.verdict) == ("starts a worker", Verdict.FAILED)
    assert "exited with code 3" in last.found


def test_a_provider_that_may_not_look_is_told_in_its_own_words(needs: Needs) -> None:
    (only,) = check_provider(Forbidden.from_config("forbidden", {}), needs)
    assert only.verdict is Verdict.FAILED
    assert "cannot list resource 'nodes'" in only.found


@pytest.fixture
def deployed(tmp_path: Path) -> Callable[[str], list[Finding]]:
    """Returns, called with a dagster.yaml, what is found of its deployment."""

    def check(config: str) -> list[Finding]:
        file = tmp_path / "dagster.yaml"
        file.write_text("telemetry: {enabled: false}\n")
        with DagsterInstance.from_config(str(tmp_path)) as instance:
            file.write_text(config)
            return list(check_deployment(tmp_path, instance, MarketSettings()))

    return check


def test_secrets_in_plain_text_are_named_not_shown(
    deployed: Callable[[str], list[Finding]],
) -> None:
    config = (
        "storage: {postgres: {postgres_db: {username: u, password: hunter2}}}\n"
        "run_launcher: {config: {market: {ledger_url: 'postgresql://u:hunter2@h/d'}}}\n"
    )
    findings = [f for f in deployed(config) if f.check == "credentials"]
    assert [f.found.split(": ")[1].split(" is")[0] for f in findings] == [
        "run_launcher.config.market.ledger_url",
        "storage.postgres.postgres_db.password",
    ]
    assert not any("hunter2" in f.found + f.remedy for f in findings)
    by_reference = "storage: {postgres: {postgres_db: {password: {env: PG_PASSWORD}}}}\n"
    (finding,) = [f for f in deployed(by_reference) if f.check == "credentials"]
    assert finding.verdict is Verdict.OK


def test_this_installation_is_of_supported_versions(
    deployed: Callable[[str], list[Finding]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (finding,) = [f for f in deployed("{}") if f.check == "versions"]
    assert finding.verdict is Verdict.OK
    monkeypatch.setattr(
        "cu_market.cli.checks.deployment.metadata.requires",
        lambda _: ["dagster<1", "no-such-package-at-all>=1", "pytest<1; extra == 'dev'"],
    )
    said = [f.found for f in deployed("{}") if f.check == "versions"]
    assert len(said) == 3
    assert any("dagster" in each and "is not <1" in each for each in said)
    assert "no-such-package-at-all is missing" in said


def test_code_and_variables_are_read_from_their_files(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text(
        "load_from:\n- python_module: a.b\n- python_module: {module_name: c}\n"
        "- python_package: {package_name: d}\n- python_file: {relative_path: e.py}\n"
        "- grpc_server: {port: 1}\n"
    )
    assert code_of(workspace) == (["a.b", "c", "d"], [str(tmp_path / "e.py")])
    assert code_of(None) == ([], [])
    assert list(variables_in({"a": [{"env": "X"}], "b": {"c": {"env": "Y"}}})) == ["X", "Y"]


def test_a_probe_reads_its_clock_before_what_takes_time(monkeypatch: pytest.MonkeyPatch) -> None:
    before = time.time_ns() // 1000
    clock_us = answer({"modules": ["cu_market.examples.flights.definitions"]})["clock_us"]
    assert before <= clock_us <= time.time_ns() // 1000
    monkeypatch.delenv("HOME", raising=False)
    assert answer({"variables": ["HOME"]})["missing_variables"] == ["HOME"]
    assert os.environ.get("HOME") is None
