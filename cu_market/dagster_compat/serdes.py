"""Dagster's own JSON of its records. Private: dagster._serdes, which its storages use."""

from dagster._serdes import deserialize_value, serialize_value

__all__ = ["deserialize_value", "serialize_value"]
