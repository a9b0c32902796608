"""Measures an output where it was written, in the step's own process: bytes of its file or folder.

The path is what Dagster's path IO managers say of an output (metadata ``path``). Whoever writes
elsewhere can say ``cu/output_bytes`` itself, by add_output_metadata; that is left as it is. Names
that people use for it are read, too.

Private: HandledOutputData, whose metadata has no public way in; seen in 1.13.27.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from dagster import DagsterEvent, DagsterEventType, EventLogEntry, MetadataValue
from dagster._core.events import HandledOutputData

OUTPUT_BYTES = "cu/output_bytes"

SAID_BYTES = (OUTPUT_BYTES, "size_bytes", "bytes", "file_size_bytes", "file_size")
"""Names under which metadata say an output's bytes, the first that is there counting."""

MOST_FILES = 10_000
"""A folder of more files is not measured: counting them would take longer than it is worth."""


def with_output_bytes(entry: EventLogEntry) -> EventLogEntry:
    """Returns the entry with the bytes of the output that it tells of; others as they are."""
    event = entry.dagster_event
    if event is None or event.event_type is not DagsterEventType.HANDLED_OUTPUT:
        return entry
    data = event.event_specific_data
    if not isinstance(data, HandledOutputData) or OUTPUT_BYTES in data.metadata:
        return entry
    size = _bytes_at(data.metadata)
    if size is None:
        return entry
    metadata = {**data.metadata, OUTPUT_BYTES: MetadataValue.int(size)}
    return entry._replace(
        dagster_event=event._replace(event_specific_data=data._replace(metadata=metadata))
    )


def output_bytes(event: DagsterEvent) -> tuple[str, int] | None:
    """Returns an output's name and bytes, or None where the event does not tell of them."""
    data = event.event_specific_data
    if not isinstance(data, HandledOutputData):
        return None
    size = said_bytes(data.metadata)
    return None if size is None else (data.output_name, size)


def said_bytes(metadata: Mapping[str, MetadataValue[Any]]) -> int | None:
    """Returns the bytes that metadata say, or None where they say none."""
    for name in SAID_BYTES:
        value = metadata[name].value if name in metadata else None
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None


def _bytes_at(metadata: Mapping[str, MetadataValue[Any]]) -> int | None:
    path = metadata.get("path")
    if path is None or not isinstance(path.value, str):
        return None
    try:
        if not os.path.isdir(path.value):
            return os.path.getsize(path.value)
        total = count = 0
        for folder, _, names in os.walk(path.value):
            count += len(names)
            if count > MOST_FILES:
                return None
            total += sum(os.path.getsize(os.path.join(folder, name)) for name in names)
    except OSError:
        return None  # an object store's key, or no longer there
    return total
