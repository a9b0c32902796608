"""What a run launcher says of a run worker's health, what it is given to launch, and whether it
resumes.

Private: dagster._core.launcher.base, which has no public home in 1.13.27.
"""

from dagster import DagsterInstance
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus

__all__ = ["CheckRunHealthResult", "LaunchRunContext", "WorkerStatus", "resumes_runs"]


def resumes_runs(instance: DagsterInstance) -> bool:
    """Returns whether a run whose run worker is lost may get another: run monitoring is on, allows
    resume attempts, and the launcher can."""
    return (
        instance.run_monitoring_enabled
        and instance.run_monitoring_max_resume_run_attempts > 0
        and instance.run_launcher.supports_resume_run
    )
