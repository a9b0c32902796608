"""A run worker of its own process: ``account_run.py JOB FOLDER SETTINGS TAGS`` (JSON)."""

from __future__ import annotations

import json
import sys

from dagster import DagsterInstance, execute_job
from execution_record import job

if __name__ == "__main__":
    name, folder, settings, tags = sys.argv[1:]
    found = job(name, "account_jobs.py")
    ops = {node.name: {"config": {"folder": folder}} for node in found.get_definition().nodes}
    with DagsterInstance.get() as instance:
        result = execute_job(
            found,
            instance,
            run_config={
                "execution": {"config": {"market": {"settings": json.loads(settings)}}},
                "ops": ops,
            },
            tags=json.loads(tags),
            raise_on_error=False,
        )
        print(result.run_id, flush=True)
