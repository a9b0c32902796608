"""What a run launcher says of a run worker's health, and what it is given to launch.

Private: dagster._core.launcher.base, which has no public home in 1.13.27.
"""

from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus

__all__ = ["CheckRunHealthResult", "LaunchRunContext", "WorkerStatus"]
