"""The twenty trivial ops of step_start_job under dagster-k8s's executor."""

import dagster as dg
from dagster_k8s import k8s_job_executor
from step_start_job import OPS, trivial


@dg.job(executor_def=k8s_job_executor)
def k8s_job_ops() -> None:
    for index in range(OPS):
        trivial.alias(f"trivial_{index}")()


defs = dg.Definitions(jobs=[k8s_job_ops])
