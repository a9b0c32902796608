"""A run worker of its own process: runs the holding job until somebody ends it."""

from __future__ import annotations

import sys

from dagster import DagsterInstance, execute_job
from execution_record import job

if __name__ == "__main__":
    with DagsterInstance.get() as instance:
        execute_job(
            job("holding"),
            instance,
            run_config={
                "execution": {"config": {"market": {}}},
                "ops": {f"holds_{i}": {"config": {"folder": sys.argv[1]}} for i in range(3)},
            },
        )
