"""A run worker's pod asks for what its job's run workers have needed, unless somebody says more."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterRun

from cu_market import MarketK8sRunLauncher
from cu_market.deo.executor.own_peak import IN_POD, note_own_peak
from cu_market.domain.units import MIB
from cu_market.ledger.errors import LedgerError
from cu_market.ledger.memory import InMemoryLedger
from cu_market.market.auction import Market
from cu_market.market.run_workers import KEPT, known_peaks, note_peak, run_worker_of, wanted_bytes
from cu_market.market.settings import MarketSettings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {}}]
"""
RUN = DagsterRun(job_name="job")


def memory_market() -> Market:
    return Market(settings=MarketSettings(), ledger=InMemoryLedger(), providers=[], now=lambda: NOW)


Made = tuple[MarketK8sRunLauncher, Market]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Made]:
    def made(**options: Any) -> Made:
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(KUBECONFIG)
        launcher = MarketK8sRunLauncher(
            service_account_name="default",
            instance_config_map="instance",
            dagster_home="/opt/dagster",
            job_image="image",
            load_incluster_config=False,
            kubeconfig_file=str(kubeconfig),
            **options,
        )
        launcher._market = memory_market()
        return launcher, launcher._market

    return made


def requested(launcher: MarketK8sRunLauncher, run: DagsterRun = RUN) -> Any:
    assert launcher._market is not None
    launcher._look_ahead(launcher._market, run)  # as within the auction's time
    context = launcher.get_container_context_for_run(run)
    return context.run_k8s_config.container_config.get("resources")


def test_nothing_is_asked_without_a_history(make: Callable[..., Made]) -> None:
    assert requested(make()[0]) is None


def test_the_largest_of_the_newest_peaks_and_a_quarter_more_is_asked(
    make: Callable[..., Made],
) -> None:
    launcher, market = make(resources={"requests": {"cpu": "250m"}})
    for peak in (900, 300, 400, 320):
        note_peak(market.ledger, "", "job", peak * MIB, now=NOW)
    wanted = 1136 * MIB  # 1125, in steps of 16
    assert wanted_bytes(market.ledger, "", "job") == wanted
    assert requested(launcher) == {"requests": {"cpu": "250m", "memory": str(wanted)}}
    for _ in range(KEPT):
        note_peak(market.ledger, "", "job", 40 * MIB, now=NOW)
    assert len(known_peaks(market.ledger, run_worker_of("", "job"))) == KEPT
    assert wanted_bytes(market.ledger, "", "job") == 128 * MIB  # never less
    assert wanted_bytes(market.ledger, "", "other") is None
    assert wanted_bytes(market.ledger, "elsewhere", "job") is None


@pytest.mark.parametrize("kind", ["requests", "limits"])
def test_what_a_person_says_stands(make: Callable[..., Made], kind: str) -> None:
    said = {kind: {"memory": "2Gi"}}
    launcher, market = make(resources=said)
    note_peak(market.ledger, "", "job", 300 * MIB, now=NOW)
    assert requested(launcher) == said
    tagged, other = make()
    note_peak(other.ledger, "", "job", 300 * MIB, now=NOW)
    tag = json.dumps({"container_config": {"resources": said}})
    run = RUN.with_tags({"dagster-k8s/config": tag})
    assert requested(tagged, run) == said


def test_a_ledger_that_is_away_stops_no_launch(
    make: Callable[..., Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher, market = make()

    def gone(*_: object) -> None:
        raise LedgerError("away")

    monkeypatch.setattr(market.ledger, "published", gone)
    assert requested(launcher) is None


def test_only_a_run_worker_in_a_pod_tells_its_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    market = memory_market()
    monkeypatch.delenv(IN_POD, raising=False)
    note_own_peak(market, RUN)
    assert wanted_bytes(market.ledger, "", "job") is None
    monkeypatch.setenv(IN_POD, "10.0.0.1")
    note_own_peak(market, RUN)
    (peak,) = known_peaks(market.ledger, run_worker_of("", "job"))
    assert 50 * MIB < peak < 20_000 * MIB
