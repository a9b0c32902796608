"""The contract between the market and whoever offers compute."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from cu_market.domain.allocation import Allocation
from cu_market.domain.bid import Bid
from cu_market.domain.profile import ResourcePool
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.ral.carrier import Carrier


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a provider can do.

    Attributes:
        relay: its workers send events home over a channel.
        warm: a worker may take further steps.
        limits: memory limits are enforced.
        reap: workers that outlived their run can be found and ended.
        elastic: CUs are cut to the asked size.
        exclusive: a worker takes one step at a time, and is started after the step's lease was
            taken, since starting it takes the room.
        tags: names of step tags by which its workers differ: a worker is shared only by steps that
            have equal ones.
        idle_seconds: an exclusive worker without a step is closed after it.
        one_worker: one worker, its key the provider's name, serves every step of a run wherever it
            was awarded: it may be started before anything is.
        grows: the memory limit of a running step can be raised.
        quotes_only: it says what its CUs would cost, and can start none of them.
        adoptable_seconds: a worker whose run worker is gone goes on for so long, and may be adopted
            by another (see Adopting); 0: it ends with it.
        ahead: its CUs can be started before a run is there to use them: it is Foresighted.
        carried: it reaches its workers by a carrier, without which none can be started.
    """

    relay: bool = False
    warm: bool = False
    limits: bool = False
    reap: bool = False
    elastic: bool = False
    exclusive: bool = False
    tags: tuple[str, ...] = ()
    idle_seconds: float = 30.0
    one_worker: bool = False
    grows: bool = False
    quotes_only: bool = False
    adoptable_seconds: float = 0.0
    ahead: bool = False
    carried: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLaunch:
    """What to start on a CU.

    Attributes:
        run_id: whose worker it is.
        worker_key: see Provider.worker_key.
        arguments: after the interpreter: ``("-m", "cu_market.deo.worker", ...)``.
        environment: added to the inherited environment; never a secret's value.
        working_directory: where to start.
        log_path: file that takes its standard output and error, or None to inherit.
        allocation: of the step that it is started for: its size and CU.
        tags: those of the step that the provider's capabilities name.
        starter: holder of the process that starts it.
        run: Dagster's record of the run, or None; for providers that build on Dagster's own
            integrations.
        instance: the run's DagsterInstance, or None; for the same.
        code_version: of all that a worker has loaded; only a run worker of the same may adopt it.
        is_adoptable: whether it may outlive its run worker: another may follow and adopt it.
        carrier: reaches the worker where its provider's capabilities ask for one, else None.
    """

    run_id: str
    worker_key: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    working_directory: str | None = None
    log_path: str | None = None
    allocation: Allocation | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    starter: str = ""
    run: Any = None
    instance: Any = None
    code_version: str = ""
    is_adoptable: bool = False
    carrier: Carrier | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLimits:
    """What a CU allows one step.

    Attributes:
        cpu_millis: cores that its thread pools are set to.
        memory_bytes: the step is ended past it.
        niceness: CPU priority, 0 normal to 19 lowest.
    """

    cpu_millis: int
    memory_bytes: int
    niceness: int = 0


class HolderStatus(StrEnum):
    """What a provider knows of a worker process."""

    RUNNING = "running"
    ENDED = "ended"
    UNKNOWN = "unknown"


class EndKind(StrEnum):
    """Why a worker has ended, as far as its provider can tell.

    EXITED: by itself, with an exit code. UNSTARTED: it never ran: the bid is withdrawn. LOST: it
    may live on, but nobody can reach it.
    """

    EXITED = "exited"
    OUT_OF_MEMORY = "out of memory"
    EVICTED = "evicted"
    PREEMPTED = "preempted"
    NODE_LOST = "node lost"
    DELETED = "deleted"
    UNSTARTED = "not started"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEnd:
    """How a worker ended.

    Attributes:
        kind: why.
        detail: the provider's own words.
        exit_code: of the worker's process as a shell gives it, or None where unknown.
    """

    kind: EndKind
    detail: str
    exit_code: int | None = None


class Worker(Protocol):
    """A started worker and its channel: a stream of bytes both ways.

    Attributes:
        holder: names the worker's process for check, stop and reap, across restarts of the caller:
            the local provider's is ``host/pid/start time``.
    """

    holder: str

    def fileno(self) -> int:
        """Returns a descriptor that a selector can wait on for reading."""

    def send(self, data: bytes) -> None:
        """Sends all of data.

        Raises:
            OSError: the channel is gone.
        """

    def receive(self) -> bytes:
        """Returns what has arrived; empty when the channel has closed. Blocks if nothing has."""

    def close(self) -> None:
        """Closes the channel: the worker then ends itself and its steps."""

    def exit_code(self) -> int | None:
        """Returns the process's exit code (negative: the signal), or None while it runs."""

    def end(self) -> WorkerEnd | None:
        """Returns how it ended, once its channel has closed; None where nothing is known."""


class Standby(StrEnum):
    """How a CU that was started ahead gets on."""

    STARTING = "starting"
    READY = "ready"
    GONE = "gone"


@runtime_checkable
class Foresighted(Protocol):
    """A provider whose workers can be started ahead of the run that is to use them.

    Whoever starts one looks after it; one that is neither looked after nor taken over for some time
    ends itself, so that nothing is left where the starter was killed. It is let go by ``reap``.
    """

    def fit(self, launch: WorkerLaunch) -> str:
        """Returns what tells workers apart, but for their size: a worker that was started for a
        launch may serve any other launch for which this is the same.

        Raises:
            InvalidInputError: such a worker cannot be described.
        """

    def start_ahead(self, launch: WorkerLaunch) -> str:
        """Starts a worker without a run; returns its holder at once.

        Args:
            launch: of whom it is expected: its run is the last one of that job.

        Raises:
            OSError: it cannot be started.
            InvalidInputError: it cannot be described.
        """

    def look_after(self, holder: str) -> Standby:
        """Returns how it gets on; it stands by for longer once it was looked after.

        Raises:
            OSError: nobody can tell now.
        """

    def take_over(self, holder: str, launch: WorkerLaunch) -> Worker:
        """Returns the worker, its run's own from now on, as if it had been started for the launch:
        whoever started it reaches it no more, and one that may be adopted is.

        Raises:
            OSError: it has gone, or another has it.
        """


@runtime_checkable
class AdoptableWorker(Worker, Protocol):
    """A worker that may outlive its run worker.

    What has arrived is kept by its other end until it is acknowledged: whoever adopts it receives
    from there on.
    """

    def acknowledge(self, size: int) -> None:
        """Says that so many more of the received bytes are dealt with and need not be kept."""

    def leave(self) -> None:
        """Closes the channel, and lets the worker and its steps go on. Where that takes seconds at
        most, returns once its other end has what was sent and acknowledged before."""


@runtime_checkable
class Adopting(Protocol):
    """A provider whose workers may outlive their run worker and be adopted by the one that follows.

    Its capabilities' adoptable_seconds says for how long they wait.
    """

    def adopt(self, holder: str, launch: WorkerLaunch) -> AdoptableWorker | None:
        """Returns a running worker that a launch with is_adoptable has started, its channel where
        its predecessor has acknowledged it; from then on that one is refused.

        Args:
            holder: of the worker.
            launch: what would be started in its place.

        Returns:
            None where there is none, it is ending, or it has loaded another code_version.

        Raises:
            OSError: it cannot be looked at now.
        """

    def reap_run(self, run_id: str, spared: Sequence[str] = ()) -> int:
        """Ends every worker of a run but those holders'; returns how many."""


@runtime_checkable
class Observant(Protocol):
    """A provider whose prices follow use.

    Attributes:
        observed: capacity_ids of which it wants to hear, known without asking anybody.
    """

    @property
    def observed(self) -> Collection[str]:
        """See the class."""

    def observe(self, held: Mapping[str, ResourceVector]) -> None:
        """Takes what is leased now of each of these; called before it is asked to bid."""


@runtime_checkable
class Refilling(Protocol):
    """A provider whose room others take, give back, or close for a while."""

    def could_serve(self, request: ResourceRequest) -> bool:
        """Returns whether a request that it does not bid for now may have room there later."""


@runtime_checkable
class Revocable(Protocol):
    """A provider some of whose leases may be taken back for others."""

    def is_revocable(self, allocation: Allocation) -> bool:
        """Returns whether this lease gives way to one that is not revocable."""


@runtime_checkable
class Provider(Protocol):
    """Turns capacity into CUs, offers them, and runs workers on those that won.

    A "no" is data: too little room is a bid not made. An exception means that the provider is
    broken, and costs it this auction only.

    Attributes:
        name: unique among the configured providers; the first part of its cu_ids.
        capabilities: what it can do.
    """

    name: str
    capabilities: Capabilities

    def pool(self) -> ResourcePool:
        """Returns its CUs and their total capacities."""

    def bid(self, requests: Sequence[ResourceRequest], now: datetime) -> Sequence[Bid]:
        """Returns offers for these requests; an offer may serve any of them that fits."""

    def worker_key(self, allocation: Allocation) -> str:
        """Returns a key; allocations with an equal one may share a warm worker."""

    def limits(self, allocation: Allocation) -> StepLimits:
        """Returns what the CU allows the step."""

    def start(self, launch: WorkerLaunch) -> Worker:
        """Starts a worker.

        Raises:
            OSError: it cannot be started.
        """

    def check(self, holder: str) -> HolderStatus:
        """Returns whether that worker still runs."""

    def stop(self, holder: str) -> None:
        """Ends that worker and all that it started, at once. Does nothing if it is gone."""

    def reap(self, holders: Sequence[str]) -> Sequence[str]:
        """Ends whatever is left of those workers; returns the holders of which something was."""
