"""The jobs that both executors run: every op is trivial, every feature is there once.

No deferred annotations here: Dagster reads the config classes from them.
"""

import os
import pickle
import signal
import socket
import sys
import threading
from pathlib import Path

import dagster as dg

from cu_market import compute, market_executor

# -- plain, config, logs, output


class Greeting(dg.Config):
    name: str


@dg.op
def greet(context: dg.OpExecutionContext, config: Greeting) -> str:
    context.log.info("greeting %s", config.name)
    context.log.warning("once only")
    print(f"out: {config.name}")
    print(f"err: {config.name}", file=sys.stderr)
    return f"hello {config.name}"


@dg.op
def shout(text: str) -> str:
    return text.upper()


@dg.op(out={"even": dg.Out(int, is_required=False), "odd": dg.Out(int, is_required=False)})
def split():
    yield dg.Output(2, "even", metadata={"kind": "even"})


@dg.op
def after_even(value: int) -> int:
    return value + 1


@dg.op
def after_odd(value: int) -> int:
    return value + 1


@dg.job(executor_def=market_executor)
def plain() -> None:
    shout(greet())


@dg.job(executor_def=market_executor)
def skipping() -> None:
    even, odd = split()
    after_even(even)
    shout.alias("after_skipped")(after_odd(odd))


# -- dynamic outputs


@dg.op(config_schema={"count": int}, out=dg.DynamicOut(int))
def spread(context: dg.OpExecutionContext):
    for index in range(context.op_config["count"]):
        yield dg.DynamicOutput(index, mapping_key=f"k{index}")


@dg.op
def square(value: int) -> int:
    return value * value


@dg.op
def total(values: list[int]) -> int:
    return sum(values)


@dg.job(executor_def=market_executor)
def dynamic() -> None:
    total(spread().map(square).collect())


# -- retries and failures


@dg.op(retry_policy=dg.RetryPolicy(max_retries=2))
def flaky_by_policy(context: dg.OpExecutionContext) -> int:
    if context.retry_number < 2:
        raise ValueError(f"attempt {context.retry_number} fails")
    return context.retry_number


@dg.op
def flaky_by_request(context: dg.OpExecutionContext) -> int:
    if context.retry_number < 1:
        raise dg.RetryRequested(max_retries=1)
    return context.retry_number


@dg.op(retry_policy=dg.RetryPolicy(max_retries=1))
def never_well() -> int:
    raise dg.Failure("it never will", metadata={"why": "by nature"})


@dg.op(retry_policy=dg.RetryPolicy(max_retries=1))
def not_worth_it() -> int:
    raise dg.Failure("do not retry", allow_retries=False)


@dg.job(executor_def=market_executor)
def retried() -> None:
    flaky_by_policy()
    flaky_by_request()


@dg.job(executor_def=market_executor)
def failing() -> None:
    square.alias("after_failure")(never_well())
    shout.alias("unharmed")(greet())
    not_worth_it()


# -- processes that crash


@dg.op(retry_policy=dg.RetryPolicy(max_retries=1))
def exits_once(context: dg.OpExecutionContext) -> str:
    if context.retry_number == 0:
        os._exit(7)
    return "the second time"


@dg.op
def exits() -> None:
    os._exit(7)


@dg.op
def kills_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dg.op
def bystander() -> str:
    return "alive"


@dg.job(executor_def=market_executor)
def crash_retried() -> None:
    exits_once()


@dg.job(executor_def=market_executor)
def crash_by_exit() -> None:
    exits()
    bystander()


@dg.job(executor_def=market_executor)
def crash_by_kill() -> None:
    kills_itself()
    bystander()


# -- hooks, resources, IO managers


@dg.success_hook
def on_success(context: dg.HookContext) -> None:
    context.log.info("hook: %s ended well", context.op.name)


@dg.failure_hook
def on_failure(context: dg.HookContext) -> None:
    context.log.info("hook: %s failed with %s", context.op.name, context.op_exception)


@dg.op
def breaks() -> None:
    raise RuntimeError("broken")


@dg.job(executor_def=market_executor)
def hooked() -> None:
    # One hook an op: of several, a set, the order differs from process to process.
    bystander.alias("well").with_hooks({on_success})()
    bystander.alias("hook_is_skipped").with_hooks({on_failure})()
    breaks.with_hooks({on_failure})()


class Counter(dg.ConfigurableResource):
    start: int

    def next(self) -> int:
        return self.start + 1


@dg.resource
def refuses(_: dg.InitResourceContext) -> None:
    raise ConnectionError("the database is away")


@dg.resource
def torn_down(context: dg.InitResourceContext):
    yield "resource"
    context.log.info("torn down")


@dg.op(required_resource_keys={"torn_down"})
def is_torn_down(context: dg.OpExecutionContext) -> str:
    return context.resources.torn_down


@dg.op
def counts(counter: Counter) -> int:
    return counter.next()


@dg.op(required_resource_keys={"refuses"}, retry_policy=dg.RetryPolicy(max_retries=1))
def needs_what_refuses() -> None:
    return None


@dg.job(
    executor_def=market_executor,
    resource_defs={"torn_down": torn_down, "counter": Counter(start=41)},
)
def resourceful() -> None:
    counts()
    is_torn_down()


@dg.job(executor_def=market_executor, resource_defs={"refuses": refuses})
def resource_fails() -> None:
    needs_what_refuses()
    bystander()


class Shelf(dg.ConfigurableIOManager):
    """Pickles under the run's own folder, and says so in metadata."""

    def _path(self, context: dg.OutputContext | dg.InputContext) -> Path:
        home = Path(os.environ["DAGSTER_HOME"], "shelf")
        return home.joinpath(*context.get_identifier()[1:])

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        path = self._path(context)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(obj))
        context.add_output_metadata({"shelf": str(obj)})

    def load_input(self, context: dg.InputContext) -> object:
        return pickle.loads(self._path(context.upstream_output).read_bytes())


@dg.job(executor_def=market_executor, resource_defs={"io_manager": Shelf()})
def shelved() -> None:
    shout.alias("from_shelf")(bystander.alias("to_shelf")())


@dg.job(executor_def=market_executor, resource_defs={"io_manager": dg.mem_io_manager})
def in_memory() -> None:
    shout.alias("from_memory")(bystander.alias("to_memory")())


# -- pools and limits


@dg.op(pool="narrow")
def one_at_a_time() -> int:
    return 1


@dg.op(tags={"dagster/concurrency_key": "keyed"})
def one_by_key() -> int:
    return 1


@dg.op(tags={"database": "small"})
def limited() -> int:
    return 1


@dg.job(executor_def=market_executor)
def pooled() -> None:
    for index in range(3):
        one_at_a_time.alias(f"pooled_{index}")()
    for index in range(2):
        one_by_key.alias(f"keyed_{index}")()


@dg.job(executor_def=market_executor)
def tag_limited() -> None:
    for index in range(3):
        limited.alias(f"limited_{index}")()


# -- re-execution


@dg.op(config_schema={"file": str})
def fails_without_file(context: dg.OpExecutionContext, text: str) -> str:
    if not Path(context.op_config["file"]).exists():
        raise FileNotFoundError("not yet")
    return text + "!"


@dg.job(executor_def=market_executor)
def resumable() -> None:
    shout.alias("last")(fails_without_file(bystander.alias("first")()))


# -- steps that wait until they are ended


@dg.op(config_schema={"folder": str})
def holds(context: dg.OpExecutionContext) -> None:
    """Says that it runs, then waits for the file ``go`` to be there, or for its end."""
    folder = Path(context.op_config["folder"])
    (folder / f"{context.op_handle}.{os.getpid()}.{socket.gethostname()}").touch()
    pause = threading.Event()
    while not (folder / "go").exists():
        pause.wait(0.02)


@dg.job(executor_def=market_executor)
def holding() -> None:
    for index in range(3):
        holds.alias(f"holds_{index}")()


@dg.op(
    tags=compute(cpu=0.1, memory="64MiB"),
    config_schema={"folder": str, "mib": int},
    retry_policy=dg.RetryPolicy(max_retries=1),
)
def hungry(context: dg.OpExecutionContext) -> int:
    """Holds its memory until it is ended the first time; the second time it is content."""
    seen = Path(context.op_config["folder"], context.op_handle.name)
    is_first = not seen.exists()
    seen.touch()
    held = b"x" * (context.op_config["mib"] * 2**20)
    if is_first:
        threading.Event().wait()
    assert context.retry_number == 0
    return len(held) // 2**20


@dg.op(tags=compute(cpu=0.1, memory="64MiB", on_oom="fail"), config_schema={"folder": str})
def hungry_once(context: dg.OpExecutionContext) -> None:
    held = b"x" * (256 * 2**20)
    threading.Event().wait()
    del held


@dg.job(executor_def=market_executor)
def out_of_memory() -> None:
    hungry()
    bystander()


@dg.job(executor_def=market_executor)
def out_of_memory_for_good() -> None:
    square.alias("after_memory")(hungry_once())
    bystander()


@dg.job(executor_def=market_executor)
def many() -> None:
    spread().map(square)


defs = dg.Definitions(
    jobs=[value for value in list(globals().values()) if isinstance(value, dg.JobDefinition)]
)
