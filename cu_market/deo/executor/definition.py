"""``market_executor``: what a user's Definitions name."""

from __future__ import annotations

from typing import Any

from dagster import ExecutorRequirement, Field, InitExecutorContext, Permissive, Selector, executor

from cu_market.dagster_compat.executor_config import (
    IN_PROCESS_FIELD,
    MULTIPROCESS_FIELD,
    create_in_process,
    create_multiprocess,
    multiple_process_requirements,
    multiprocess_fields,
    retry_mode_of,
    step_dependency_config_from,
)
from cu_market.deo.settings import MARKET, beside_storage, instance_settings

_SHARED_FIELDS = multiprocess_fields(
    "max_concurrent", "retries", "tag_concurrency_limits", "step_dependency_config"
)


def _requirements(config: Any) -> list[ExecutorRequirement]:
    return [] if "in_process" in config else list(multiple_process_requirements())


@executor(
    name=MARKET,
    config_schema=Field(
        Selector(
            {
                MARKET: Field(
                    {
                        **_SHARED_FIELDS,
                        "settings": Field(
                            Permissive(),
                            is_required=False,
                            description="Market settings where no MarketRunLauncher has them.",
                        ),
                    },
                    description="Each step runs on the CU that won it.",
                ),
                "multiprocess": MULTIPROCESS_FIELD,
                "in_process": IN_PROCESS_FIELD,
            }
        ),
        default_value={MARKET: {}},
    ),
    requirements=_requirements,
)
def market_executor(init_context: InitExecutorContext) -> Any:
    """Runs each step on the Compute Unit that won its auction.

    .. code-block:: yaml

        execution:
          config:
            market:              # or multiprocess: {} or in_process: {}, which opt a run out
              max_concurrent: 4  # 0, the default: four a core here, and all on rented CUs

    ``retries`` and ``tag_concurrency_limits`` are multiprocess's own.
    """
    config: Any = init_context.executor_config
    if "in_process" in config:
        return create_in_process(config["in_process"])
    if "multiprocess" in config:
        return create_multiprocess(config["multiprocess"])
    # Here, not above: whoever only loads the user's code needs nothing of the market's.
    from cu_market.deo.executor.executor import MarketExecutor
    from cu_market.market.settings import parse_settings

    branch: Any = config[MARKET]
    instance = init_context.instance
    own = branch.get("settings")
    settings = (
        beside_storage(parse_settings(own, "execution.config.market.settings"), instance)
        if own
        else instance_settings(instance)
    )
    return MarketExecutor(
        settings=settings,
        dagster_home=instance.root_directory,
        retries=retry_mode_of(branch["retries"]),
        max_concurrent=branch.get("max_concurrent"),
        tag_concurrency_limits=branch.get("tag_concurrency_limits"),
        step_dependency_config=step_dependency_config_from(branch.get("step_dependency_config")),
    )
