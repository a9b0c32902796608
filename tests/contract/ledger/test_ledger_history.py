"""What is read back: attempts, runs, curves, publications, newest first."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from contract_rows import MINUTE, T0, auction, award, lease, settled

from cu_market.domain.allocation import AllocationState
from cu_market.domain.curve import UsageCurve
from cu_market.domain.features import StepFeatures
from cu_market.domain.lease import RunLease
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.publication import Publication
from cu_market.domain.request import StepIdentity
from cu_market.domain.usage import Ending, GpuScope, Measurement, Usage
from cu_market.ledger.interface import Ledger


class TestHistory:
    def test_newest_attempts_of_each_identity(self, ledger: Ledger) -> None:
        wanted = StepIdentity(code_location="here", node="n", partition="p")
        others = [
            StepIdentity(code_location="there", node="n", partition="p"),
            StepIdentity(code_location="here", node="m", partition="p"),
            StepIdentity(code_location="here", node="n", partition="q"),
        ]
        rows = [
            settled(ledger, "a", attempt=number, identity=wanted, ended_at=T0 + number * MINUTE)
            for number in (1, 3, 2, 4)
        ]
        for number, identity in enumerate(others):
            settled(ledger, f"other-{number}", identity=identity)
        found = ledger.history([wanted, wanted, others[1], StepIdentity(node="none")], limit=3)
        assert set(found) == {wanted, others[1]}
        assert list(found[wanted]) == [rows[3], rows[1], rows[2]]
        assert len(found[others[1]]) == 1
        assert ledger.history([]) == {}

    def test_relatives_are_a_steps_newest_attempts_in_any_partition(self, ledger: Ledger) -> None:
        step = StepIdentity(code_location="here", node="n")
        days = [replace(step, partition=f"2026-01-0{day}") for day in (1, 2, 3, 4)]
        rows = [
            settled(ledger, f"run-{day}", identity=identity, ended_at=T0 + day * MINUTE)
            for day, identity in enumerate(days)
        ]
        settled(ledger, "other", identity=replace(days[0], node="m"))
        settled(ledger, "elsewhere", identity=replace(days[0], code_location="there"))
        asked = [days[0], days[3], replace(step, node="none")]
        assert ledger.relatives(asked, limit=3) == {step: [rows[3], rows[2], rows[1]]}
        assert ledger.relatives([]) == {}

    def test_curves_of_good_ends_alone(self, ledger: Ledger) -> None:
        identity = StepIdentity(code_location="here", node="n")
        for number, ending in enumerate((Ending.OK, Ending.OUT_OF_MEMORY, Ending.OK)):
            used = settled(ledger, f"run-{number}", identity=identity, ending=ending)
            curve = UsageCurve(interval_ms=50, memory_bytes=(number,), cpu_ms=(1,), io_bytes=(1,))
            key = (used.run_id, used.step_key, used.attempt)
            ledger.keep_curve(key, identity, curve, ended_at=T0 + number * MINUTE)
        every = ledger.curves(identity, limit=2)
        assert [curve.memory_bytes for curve in every] == [(2,), (1,)]
        good = ledger.curves(identity, limit=2, ended_well=True)
        assert [curve.memory_bytes for curve in good] == [(2,), (0,)]

    def test_usages_of_a_code_location(self, ledger: Ledger) -> None:
        here = StepIdentity(code_location="here", node="n")
        rows = [
            settled(ledger, f"run-{number}", identity=here, ended_at=T0 + number * MINUTE)
            for number in range(3)
        ]
        other = settled(ledger, "other", identity=StepIdentity(node="n"))
        assert list(ledger.usages(code_location="here", limit=2)) == [rows[2], rows[1]]
        assert list(ledger.usages(code_location="here", run_id="run")) == rows[::-1]
        assert list(ledger.usages(code_location="")) == [other]

    def test_every_field_of_a_usage_is_read_as_written(self, ledger: Ledger) -> None:
        full = settled(
            ledger,
            "a",
            identity=StepIdentity(code_location="x", node="a+b", partition="2026|ü"),
            code_version="v1",
            job_name="job",
            measurement=Measurement(
                wall_ms=1,
                cpu_ms=2,
                peak_memory_bytes=2**45,
                baseline_bytes=4,
                read_bytes=5,
                written_bytes=6,
                waited_ms=None,
                gpu_peak_bytes=2**36,
                gpu_busy_millis=7_900,
                gpu_scope=GpuScope.DEVICE,
            ),
            ending=Ending.OUT_OF_MEMORY,
            input_bytes=0,
            features=StepFeatures(
                input_rows=10**12,
                upstream_keys=3,
                config=(("a.b", 0.1), ("n", 2.0)),
                config_digest="0123abcd",
            ),
            declared_bytes=2**40,
            external=True,
        )
        assert ledger.usages() == [full]
        assert ledger.usages(run_id="other") == []

    def test_usages_come_newest_first_and_limited(self, ledger: Ledger) -> None:
        rows = [settled(ledger, f"s{n}", ended_at=T0 + n * MINUTE) for n in (1, 3, 2)]
        assert ledger.usages(run_id="run") == [rows[1], rows[2], rows[0]]
        assert ledger.usages(limit=1) == [rows[1]]

    def test_delivered_shares_by_cu(self, ledger: Ledger) -> None:
        def share(waited_ms: int | None) -> Measurement:
            return Measurement(wall_ms=1, cpu_ms=100, peak_memory_bytes=1, waited_ms=waited_ms)

        for number, (cu, waited) in enumerate(
            [("x", 0), ("y", 100), ("x", 300), ("x", None), ("x", 100), ("z", None)]
        ):
            settled(
                ledger,
                f"s{number}",
                resource_id=cu,
                measurement=share(waited),
                ended_at=T0 + number * MINUTE,
            )
        shares = {cu: list(values) for cu, values in ledger.delivered(limit=2).items()}
        assert shares == {"x": [500, 250], "y": [500]}


class TestReading:
    def test_allocations_are_filtered_ordered_and_limited(self, ledger: Ledger) -> None:
        early = award("z", awarded_at=T0 - MINUTE)
        ledger.record_auction(auction(), [early, award("a"), award("a", 2), award("Z")])
        given = lease(ledger, award("b", run="other"))
        keys = [row.key for row in ledger.allocations()]
        assert keys == [
            ("run", "a", 2),
            ("run", "a", 1),
            ("run", "Z", 1),
            ("other", "b", 1),
            ("run", "z", 1),
        ]
        assert [row.key for row in ledger.allocations(run_id="run", limit=1)] == keys[:1]
        states = [AllocationState.LEASED, AllocationState.SETTLED]
        assert ledger.allocations(states=states) == [given]
        assert ledger.allocations(states=[]) == []


class TestRuns:
    def test_a_run_is_held_extended_and_ended(self, ledger: Ledger) -> None:
        assert ledger.run_lease("run") is None
        ledger.end_run("run", now=T0)
        ledger.hold_run("run", "h/1", expires_at=T0 + 2 * MINUTE)
        ledger.hold_run("run", "h/1", expires_at=T0 + MINUTE)
        ledger.hold_run("other", "h/2", expires_at=T0)
        held = RunLease(run_id="run", holder="h/1", expires_at=T0 + 2 * MINUTE)
        assert ledger.run_lease("run") == held
        assert [run.run_id for run in ledger.live_runs()] == ["other", "run"]
        ledger.end_run("run", now=T0)
        ledger.end_run("run", now=T0 + MINUTE)
        assert ledger.run_lease("run") == replace(held, ended_at=T0)
        assert [run.run_id for run in ledger.live_runs()] == ["other"]

    def test_who_said_goodbye_stays_gone_and_a_successor_begins_anew(self, ledger: Ledger) -> None:
        ledger.hold_run("run", "h/1", expires_at=T0 + 9 * MINUTE)
        ledger.end_run("run", now=T0)
        ledger.hold_run("run", "h/1", expires_at=T0 + 99 * MINUTE)
        assert ledger.live_runs() == []
        ledger.hold_run("run", "h/2", expires_at=T0 + MINUTE)
        successor = RunLease(run_id="run", holder="h/2", expires_at=T0 + MINUTE)
        assert ledger.live_runs() == [successor]


class TestWhatIsLearned:
    def test_the_newest_curves_of_a_step_come_first(self, ledger: Ledger) -> None:
        step, other = StepIdentity(node="a", partition="p"), StepIdentity(node="a")
        kept = [
            UsageCurve(interval_ms=50, memory_bytes=(n, 2 * n), cpu_ms=(1, 2), io_bytes=(0, 9))
            for n in (1, 2, 3)
        ]
        for number, curve in enumerate(kept):
            at = T0 + timedelta(seconds=number)
            ledger.keep_curve(("run", f"s{number}", 1), step, curve, ended_at=at)
        ledger.keep_curve(("run", "s2", 1), step, kept[2], ended_at=T0 + timedelta(seconds=2))
        assert list(ledger.curves(step)) == kept[::-1]
        assert list(ledger.curves(step, limit=1)) == kept[2:]
        assert list(ledger.curves(other)) == []

    def test_the_last_publication_of_each_step_stands(self, ledger: Ledger) -> None:
        a, b = StepIdentity(code_location="x", node="a"), StepIdentity(code_location="x", node="")
        first = Publication(identity=a, model="x@1", published_at=T0, state={"p": [1, 2.5]})
        second = Publication(identity=a, model="x@2", published_at=T0 + MINUTE, state={})
        whole = Publication(identity=b, model="x@2", published_at=T0, state={"q": "r"})
        ledger.publish([first])
        assert ledger.published([a, b]) == {a: first}
        ledger.publish([second, whole])
        assert ledger.published() == {a: second, b: whole}
        with pytest.raises(InvalidInputError):
            ledger.publish([first, replace(whole, state={"bad": object()})])
        assert ledger.published([a]) == {a: second}
        assert ledger.withdraw([a, a]) == 1
        assert ledger.published() == {b: whole}

    def test_imported_attempts_are_kept_once(self, ledger: Ledger) -> None:
        first, second = (
            Usage(
                run_id="import:x",
                step_key=f"fit[{row}]",
                attempt=1,
                identity=StepIdentity(code_location="x", node="fit"),
                provider="import",
                resource_id="import/x",
                started_at=T0,
                ended_at=T0 + timedelta(seconds=row),
                cpu_millis=0,
                memory_bytes=5,
                measurement=Measurement(wall_ms=1, cpu_ms=1, peak_memory_bytes=row),
                ending=Ending.OK,
                input_bytes=row,
            )
            for row in (1, 2)
        )
        assert ledger.keep_usages([first, first]) == 1
        changed = replace(first, memory_bytes=99)
        assert ledger.keep_usages([changed, second]) == 1
        assert list(ledger.usages()) == [second, first]
