"""Event log entries as they come home from a worker: read and completed.

Private: EventLogEntry's JSON, DagsterEvent.event_specific_data; seen in 1.13.27.
"""

from __future__ import annotations

from collections.abc import Mapping

from dagster import DagsterEventType, EventLogEntry, MetadataValue
from dagster._core.events import StepMaterializationData
from dagster._serdes import deserialize_value
from dagster._utils.error import SerializableErrorInfo


def read_entry(text: str) -> EventLogEntry:
    """Returns an entry from a worker's JSON."""
    return deserialize_value(text, EventLogEntry)


EntryIdentity = tuple[str | None, float, str | None, str]
"""Step key, time, kind of event, message."""


def identity_of(entry: EventLogEntry) -> EntryIdentity:
    """Returns what an entry has in common with itself as it was stored: a relayed materialization
    is stored with more metadata than it came with."""
    event = entry.dagster_event
    kind = event.event_type_value if event is not None else None
    return (entry.step_key, entry.timestamp, kind, entry.message)


def read_error(text: str) -> SerializableErrorInfo:
    """Returns a system error from a worker's JSON."""
    return deserialize_value(text, SerializableErrorInfo)


def with_materialization_metadata(
    entry: EventLogEntry, metadata: Mapping[str, MetadataValue]
) -> EventLogEntry:
    """Returns the entry with more metadata on its materialization; other entries as they are.

    The user's own labels win over equal ones of the market's.
    """
    event = entry.dagster_event
    if event is None or event.event_type is not DagsterEventType.ASSET_MATERIALIZATION:
        return entry
    data = event.event_specific_data
    if not isinstance(data, StepMaterializationData):
        return entry
    materialization = data.materialization
    complete = materialization.with_metadata({**metadata, **materialization.metadata})
    return entry._replace(
        dagster_event=event._replace(event_specific_data=data._replace(materialization=complete))
    )
