"""What an adopted worker sends again is in the event log once, whatever of it was stored before."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import MagicMock, patch

from dagster import DagsterEvent, DagsterEventType, EventLogEntry
from dagster._core.execution.plan.objects import StepSuccessData
from dagster._serdes import serialize_value
from hypothesis import given
from hypothesis import strategies as st

from cu_market.dagster_compat.entries import identity_of, read_entry
from cu_market.dagster_compat.events import EngineEventData
from cu_market.deo.executor import relay as module
from cu_market.deo.executor.relay import Relay
from cu_market.deo.executor.state import Attempt, RunState
from cu_market.deo.worker.channel import StepChannel
from cu_market.deo.worker.frames import Decoder, Frame

STREAM = 7
_DATA: dict[DagsterEventType, Any] = {
    DagsterEventType.STEP_SUCCESS: StepSuccessData(duration_ms=1.0),
    DagsterEventType.RESOURCE_INIT_FAILURE: EngineEventData(),
}


def an_entry(message: str, at: float, kind: DagsterEventType | None) -> EventLogEntry:
    event = kind and DagsterEvent(
        event_type_value=kind.value,
        job_name="job",
        step_key="step",
        message=message,
        event_specific_data=_DATA.get(kind),
    )
    return EventLogEntry(
        error_info=None,
        level=20,
        user_message=message,
        run_id="run",
        timestamp=at,
        step_key="step",
        job_name="job",
        dagster_event=event,
    )


_ENTRIES = st.lists(
    st.builds(
        an_entry,
        st.sampled_from(["one", "two"]),
        st.sampled_from([1.0, 1.5]),  # many are alike, even in their time
        st.sampled_from([None, DagsterEventType.STEP_START, DagsterEventType.STEP_SUCCESS]),
    ),
    max_size=12,
)


def frames_of(entries: list[EventLogEntry]) -> list[Frame]:
    """Returns what a step sends of these."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = StepChannel(ours, serialize_value)
        decoder, frames = Decoder(), list[Frame]()
        for entry in entries:
            channel.send(entry)
            frames += decoder.feed(theirs.recv(65536))
    return [{**frame, "stream": STREAM} for frame in frames]


@contextmanager
def a_relay(log: list[EventLogEntry]) -> Iterator[tuple[Relay, RunState, Any]]:
    """Yields a relay whose event log is a list, with an attempt that is adopted."""
    run = RunState(
        executor=MagicMock(),
        context=MagicMock(),
        active=MagicMock(),
        negotiation=MagicMock(),
        workers=MagicMock(),
        max_concurrent=1,
    )
    worker = MagicMock(streams={STREAM})
    run.attempts[STREAM] = Attempt(
        step_key="step",
        lease=MagicMock(),
        worker=worker,
        known=Counter(identity_of(entry) for entry in log),
    )
    with patch.object(module, "store_entries", lambda _, entries: log.extend(entries)):
        yield Relay(run, MagicMock()), run, worker


@given(_ENTRIES, st.data())
def test_each_entry_is_stored_once_and_in_order(
    entries: list[EventLogEntry], data: st.DataObject
) -> None:
    sent = frames_of(entries)
    entries = [read_entry(frame["entry"]) for frame in sent]
    stored = data.draw(st.integers(0, len(entries)), "stored by the earlier run worker")
    again_from = data.draw(st.integers(0, stored), "acknowledged by it")
    parcels = data.draw(st.integers(1, 5), "frames that arrive together")
    log = entries[:stored]
    frames = sent[again_from:]
    with a_relay(log) as (relay, run, worker):
        told = []
        for begin in range(0, len(frames), parcels):
            told += list(relay.take(worker, frames[begin : begin + parcels]))
    assert log == entries
    # The machine has seen the log: only what is new is shown to it.
    new = [e.dagster_event for e in entries[stored:] if e.dagster_event is not None]
    assert told == new
    active: Any = run.active
    assert [call.args[0] for call in active.handle_event.call_args_list] == new
    if frames:
        last = {"kind": "stored", "stream": STREAM, "number": len(entries)}
        assert worker.send.call_args_list[-1].args[0] == last


def test_a_step_is_told_what_is_stored_where_the_earlier_word_was_lost() -> None:
    with a_relay([]) as (relay, _, worker):
        list(relay.take(worker, [{"kind": "attached", "begun": [[STREAM, 3]]}]))
    worker.send.assert_called_once_with({"kind": "stored", "stream": STREAM, "number": 3})


def test_an_attempt_that_its_worker_knows_nothing_of_is_ended() -> None:
    with a_relay([]) as (relay, run, worker):
        endings: Any = relay._endings
        endings.end_unbegun.return_value = []
        list(relay.take(worker, [{"kind": "attached", "begun": []}]))
        endings.end_unbegun.assert_called_once_with(run.attempts[STREAM])
    worker.send.assert_not_called()


def test_a_resource_that_failed_fails_its_step_though_the_event_was_stored() -> None:
    failed = an_entry("no", 1.0, DagsterEventType.RESOURCE_INIT_FAILURE)
    with a_relay([failed]) as (relay, run, worker), patch.object(RunState, "fail") as fail:
        list(relay.take(worker, frames_of([failed])))
    fail.assert_called_once()
    assert fail.call_args.args[0] is run.attempts[STREAM]
