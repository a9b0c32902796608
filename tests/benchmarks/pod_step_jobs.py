"""The twenty trivial ops of step_start_job under both executors for pods."""

import dagster as dg
from dagster_k8s import k8s_job_executor
from step_start_job import OPS, trivial

from cu_market import market_executor


def _trivial_ops() -> None:
    for index in range(OPS):
        trivial.alias(f"trivial_{index}")()


market_ops = dg.job(name="market_ops", executor_def=market_executor)(_trivial_ops)
k8s_job_ops = dg.job(name="k8s_job_ops", executor_def=k8s_job_executor)(_trivial_ops)

defs = dg.Definitions(jobs=[market_ops, k8s_job_ops])
