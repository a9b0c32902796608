"""Assets that both executors materialize: multi-assets, partitions, checks that warn and block."""

import dagster as dg

from cu_market import market_executor

days = dg.StaticPartitionsDefinition(["monday", "tuesday"])


@dg.asset
def base() -> int:
    return 3


@dg.asset(code_version="7")
def doubled(base: int) -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"value": 2 * base}, value=2 * base)


@dg.multi_asset(
    outs={"left": dg.AssetOut(is_required=False), "right": dg.AssetOut(is_required=False)},
    can_subset=True,
)
def both(context: dg.AssetExecutionContext, base: int):
    for name in sorted(context.selected_output_names):
        yield dg.Output(f"{name} {base}", output_name=name, metadata={"side": name})


@dg.asset(partitions_def=days)
def by_day(context: dg.AssetExecutionContext) -> str:
    context.log.info("partition %s", context.partition_key)
    return context.partition_key


@dg.asset(partitions_def=days)
def after_day(by_day: str) -> str:
    return by_day.upper()


@dg.asset(check_specs=[dg.AssetCheckSpec("own", asset="checked")])
def checked(context: dg.AssetExecutionContext):
    context.log_event(dg.AssetObservation("checked", metadata={"seen": True}))
    yield dg.Output(5)
    yield dg.AssetCheckResult(check_name="own", passed=True)


@dg.asset_check(asset=checked)
def warns(checked: int) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=checked > 5, severity=dg.AssetCheckSeverity.WARN, metadata={"value": checked}
    )


@dg.asset
def below_check(checked: int) -> int:
    return checked


@dg.asset
def guarded() -> int:
    return 7


@dg.asset_check(asset=guarded, blocking=True)
def blocks() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False)


@dg.asset
def never_reached(guarded: int) -> int:
    return guarded


def _job(name: str, *assets: dg.AssetsDefinition) -> object:
    return dg.define_asset_job(
        name, selection=dg.AssetSelection.assets(*assets), executor_def=market_executor
    )


defs = dg.Definitions(
    assets=[base, doubled, both, by_day, after_day, checked, below_check, guarded, never_reached],
    asset_checks=[warns, blocks],
    jobs=[
        _job("assets", base, doubled, both),
        _job("by_days", by_day, after_day),
        _job("with_checks", checked, below_check),
        _job("blocked", guarded, never_reached),
    ],
)
