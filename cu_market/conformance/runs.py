"""Runs by the market's own executor, whose steps are on the provider: bills, limits, endings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cu_market.conformance.tested import ProviderUnderTest
from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.auction import Auction
from cu_market.domain.units import lease_cost_microusd, usd_to_microusd
from cu_market.domain.usage import Ending, Usage
from cu_market.ledger.location import follow
from cu_market.ledger.sql import open_ledger
from cu_market.ral.provider import HolderStatus, Provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run left.

    Attributes:
        is_success: of the run.
        entries: its event log.
        rows, usages: the ledger's.
        auction: the one that it held at its start.
    """

    is_success: bool
    entries: Sequence[Any]
    rows: Sequence[Allocation]
    usages: Sequence[Usage]
    auction: Auction


class RunsConformance(ProviderUnderTest):
    """See the module's docstring."""

    @pytest.fixture
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A Dagster home of its own."""
        home = tmp_path / "home"
        home.mkdir()
        (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        monkeypatch.setenv("DAGSTER_HOME", str(home))
        return home

    def run_job(self, job: str, home: Path) -> Outcome:
        """Returns what a job's run left, all of whose steps were auctioned to the provider."""
        from dagster import DagsterInstance, execute_job, reconstructable

        from cu_market.conformance import run_job

        ledger_url = self.configured.ledger or f"sqlite:///{home / 'ledger.db'}"
        settings = {
            "providers": self.configured.settings(),
            "ledger_url": ledger_url,
            "bid_deadline_seconds": 30,
            "on_market_failure": "fail",
        }
        config = {"execution": {"config": {"market": {"settings": settings}}}}
        target = reconstructable(getattr(run_job, job))
        url = follow(ledger_url, "Configured.ledger")
        with DagsterInstance.get() as instance, open_ledger(url) as ledger:
            # Not entered: that would make the job's resources here.
            result = execute_job(target, instance, run_config=config, raise_on_error=False)
            run_id = result.run_id
            return Outcome(
                is_success=result.success,
                entries=instance.all_logs(run_id),
                rows=ledger.allocations(run_id=run_id),
                usages=ledger.usages(run_id=run_id),
                auction=ledger.auctions(run_id)[-1],
            )

    def test_a_run_succeeds_and_each_step_is_billed_once(
        self, starting: Provider, home: Path
    ) -> None:
        """Price x lease time to the micro-dollar, at the price that was bid."""
        outcome = self.run_job("two_steps", home)
        assert outcome.is_success, [e.message for e in outcome.entries if e.level >= 40]
        settled = [row for row in outcome.rows if row.state is AllocationState.SETTLED]
        assert sorted(row.step_key for row in settled) == ["first", "second"]
        steps = {step["step"]: step for step in outcome.auction.report["steps"]}
        for row in settled:
            assert row.provider == starting.name
            assert row.leased_at is not None
            assert row.ended_at is not None
            held_ms = round(1000 * (row.ended_at - row.leased_at).total_seconds())
            cost = lease_cost_microusd(row.price_microusd_per_hour, held_ms)
            assert row.cost_microusd == pytest.approx(cost, abs=1)
            bid = steps[row.step_key]["winner"]["price_per_hour"]
            assert row.price_microusd_per_hour == usd_to_microusd(bid)
        assert sorted(usage.step_key for usage in outcome.usages) == ["first", "second"]
        assert {usage.ending for usage in outcome.usages} == {Ending.OK}
        assert all(usage.measurement.peak_memory_bytes > 0 for usage in outcome.usages)

    def test_what_a_step_says_and_does_is_in_the_run(self, starting: Provider, home: Path) -> None:
        """Log lines and events come home, with use and cost in them."""
        outcome = self.run_job("two_steps", home)
        assert any("the first step speaks" in entry.user_message for entry in outcome.entries)
        made = [
            entry.dagster_event.step_materialization_data.materialization
            for entry in outcome.entries
            if entry.dagster_event is not None
            and entry.dagster_event.event_type_value == "ASSET_MATERIALIZATION"
        ]
        assert len(made) == 1
        if starting.capabilities.relay:
            assert made[0].metadata["cu/resource_id"].value.startswith(f"{starting.name}/")

    def test_a_users_failure_is_the_users(self, starting: Provider, home: Path) -> None:
        """Told in the user's own words, and never taken for the provider's."""
        outcome = self.run_job("failed_step", home)
        assert not outcome.is_success
        failures = [
            e for e in outcome.entries if e.dagster_event and e.dagster_event.is_step_failure
        ]
        assert len(failures) == 1
        assert "of the user's own making" in str(failures[0].dagster_event.event_specific_data)
        assert [row.attempt for row in outcome.rows if row.leased_at] == [1]
        assert [usage.ending for usage in outcome.usages] == [Ending.ERROR]

    def test_a_step_past_its_memory_is_ended_for_it(self, starting: Provider, home: Path) -> None:
        """And that is what is said and kept of it, not that a worker was lost."""
        if not starting.capabilities.limits:
            pytest.skip("declares no limits")
        outcome = self.run_job("too_hungry", home)
        assert not outcome.is_success
        assert {usage.ending for usage in outcome.usages} == {Ending.OUT_OF_MEMORY}
        assert len([row for row in outcome.rows if row.leased_at]) == 1

    def test_nothing_is_left_of_a_run(self, starting: Provider, home: Path) -> None:
        """Neither a lease nor a worker."""
        outcome = self.run_job("two_steps", home)
        assert {row.state for row in outcome.rows} <= {
            AllocationState.SETTLED,
            AllocationState.RELEASED,
        }
        for holder in {row.holder for row in outcome.rows if row.holder}:
            assert starting.check(holder) is not HolderStatus.RUNNING
