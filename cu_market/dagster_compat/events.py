"""What Dagster's events carry. Private: EngineEventData, which has no public home in 1.13.27."""

from dagster._core.events import EngineEventData

__all__ = ["EngineEventData"]
