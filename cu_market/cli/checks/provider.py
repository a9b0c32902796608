"""Checks of a provider: it answers, offers, and what a worker finds on a CU of its."""

from __future__ import annotations

import json
import os
import secrets
import selectors
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cu_market.cli.checks.deployment import judge_skew
from cu_market.cli.checks.finding import Finding, Subject
from cu_market.deo.worker.probe import answer as answer_here
from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.bid import Bid
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import MIB, format_usd
from cu_market.ral.carrier import Carrier
from cu_market.ral.provider import Provider, Worker, WorkerEnd, WorkerLaunch

END_SECONDS = 5.0

SMALL = ResourceVector(cpu_millis=100, memory_bytes=256 * MIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What steps of this deployment need wherever they run.

    Attributes:
        modules, files: the code locations' code.
        addresses: ``host:port`` of databases.
        variables: environment variables that the configuration refers to.
        storage: directory in which the default IO manager keeps results.
        timeout_seconds: for a worker to start and answer.
    """

    modules: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    storage: Path
    timeout_seconds: float = 120.0


def check_provider(
    provider: Provider, needs: Needs, carrier: Carrier | None = None
) -> Iterator[Finding]:
    """Yields what is found of a provider, in the order in which one thing needs another.

    Args:
        provider: to be checked.
        needs: of steps.
        carrier: reaches its workers, where it needs one.
    """
    subject = Subject(provider.name)
    try:
        pool = provider.pool()
    except Exception as error:  # noqa: BLE001 - foreign code: what it raises is its answer
        said = f"{type(error).__name__}: {error}"
        remedy = "mend its options, credentials or rights; its own words say which"
        yield subject.failed("answers", said, remedy)
        return
    yield subject.ok("answers", f"{len(pool.profiles)} CUs")
    request = ResourceRequest(
        request_id="check", timestamp=datetime.now(UTC), duration_ms=1000, needs=SMALL
    )
    bids = list(provider.bid([request], datetime.now(UTC)))
    if not bids:
        remedy = "wait for room, or give it more; `cu-market pool` shows what is free"
        yield subject.warning("offers", "no bid for a small step", remedy)
        return
    price = format_usd(min(bid.price_for(SMALL) for bid in bids))
    yield subject.ok("offers", f"a small step from {price} an hour")
    if not provider.capabilities.quotes_only:
        launch = _launch(provider, bids[0], carrier)
        yield from _try_worker(subject, provider, launch, needs)


def _try_worker(
    subject: Subject, provider: Provider, launch: WorkerLaunch, needs: Needs
) -> Iterator[Finding]:
    began = time.monotonic()
    token = secrets.token_hex(8)
    shared = needs.storage / f".cu_market_check_{token}"
    worker: Worker | None = None
    try:
        needs.storage.mkdir(parents=True, exist_ok=True)
        shared.write_text(token)
        worker = provider.start(launch)
        found = _ask(worker, _question(needs, shared), needs.timeout_seconds)
        ahead_seconds = _compare_clocks(worker, needs.timeout_seconds)
    except Exception as error:  # noqa: BLE001 - what is broken is what is looked for
        end = _how_it_ended(worker) if worker is not None else None
        said = f"{end.kind}: {end.detail}" if end else f"{type(error).__name__}: {error}"
        remedy = "mend what its own words say: rights, image, quota, room"
        yield subject.failed("starts a worker", said, remedy)
        return
    finally:
        shared.unlink(missing_ok=True)
        if worker is not None:
            worker.close()
            provider.stop(worker.holder)
            worker.exit_code()
    seconds = time.monotonic() - began
    yield subject.ok("starts a worker", f"on {found['host']}, in {seconds:.1f} s")
    yield judge_skew(subject, "its clock", ahead_seconds)
    has_relay = provider.capabilities.relay
    yield from judge_answer(subject, found, needs, token=token, has_relay=has_relay)


def judge_answer(
    subject: Subject,
    found: Mapping[str, Any],
    needs: Needs,
    *,
    token: str,
    has_relay: bool,
) -> Iterator[Finding]:
    """Yields what a probe's answer means, compared with what is here.

    Args:
        token: what the shared file held.
        has_relay: what steps write goes home over their channel, so few need a database.
    """
    here = answer_here({"modules": needs.modules, "files": needs.files})
    yield from _judge_versions(subject, found, here)
    yield from _judge_code(subject, found, here)
    for address, failure in found["addresses"].items():
        remedy = "open the way: listen_addresses and pg_hba.conf, network policy, firewall"
        if not failure:
            yield subject.ok("database", f"{address} can be reached from there")
        elif has_relay:
            what = f"{address} from there: {failure}; steps that read Dagster's instance will fail"
            yield subject.warning("database", what, remedy)
        else:
            yield subject.failed("database", f"{address} from there: {failure}", remedy)
    if found["missing_variables"]:
        names = ", ".join(found["missing_variables"])
        remedy = "give them to its workers: env or secrets in its options"
        yield subject.warning("credentials", f"not set there: {names}", remedy)
    elif needs.variables:
        yield subject.ok("credentials", "every variable that dagster.yaml names is set there")
    if found["shared"] == token:
        yield subject.ok("IO manager", f"{needs.storage} is the same there")
    else:
        yield subject.warning(
            "IO manager",
            f"{needs.storage} of this host is not seen there: the default IO manager's results "
            "cannot be read",
            "use an IO manager that writes where both can read (a mounted volume, a UPath store)",
        )


def _judge_versions(
    subject: Subject, found: Mapping[str, Any], here: Mapping[str, Any]
) -> Iterator[Finding]:
    minor = [v.rpartition(".")[0] for v in (found["python"], here["python"])]
    pairs = [("python", *minor)]
    for name in ("cu-market", "dagster"):
        pairs.append((name, found["versions"][name], here["versions"][name]))
    differing = [
        f"{name} {there or 'missing'}, here {own}" for name, there, own in pairs if there != own
    ]
    if differing:
        remedy = "install the same versions there: what crosses between them is pickled"
        yield subject.failed("versions", "; ".join(differing), remedy)
    else:
        yield subject.ok("versions", ", ".join(f"{name} {own}" for name, _, own in pairs))


def _judge_code(
    subject: Subject, found: Mapping[str, Any], here: Mapping[str, Any]
) -> Iterator[Finding]:
    for name, failure in found["imports"].items():
        if failure:
            remedy = "install the code and what it imports there (the image, the host)"
            yield subject.failed("code", f"{name} cannot be imported there: {failure}", remedy)
    for name, digest in found["sources"].items():
        if found["imports"].get(name):
            continue
        if not digest:
            yield subject.failed("code", f"{name} is not there", "put the code there")
        elif digest != here["sources"][name]:
            what = f"{name} there is {digest}, here {here['sources'][name]}: another version"
            yield subject.failed("code", what, "deploy the same code there (rebuild the image)")
        else:
            yield subject.ok("code", f"{name} {digest} is the same there")


def _launch(provider: Provider, bid: Bid, carrier: Carrier | None) -> WorkerLaunch:
    lease = Allocation(
        run_id=str(uuid.uuid4()),
        step_key="check",
        attempt=1,
        state=AllocationState.LEASED,
        auction_id="check",
        bid_id=bid.bid_id,
        provider=provider.name,
        resource_id=bid.profile.cu_id,
        capacity_id=bid.profile.capacity_id,
        size=bid.size_for(SMALL),
        price_microusd_per_hour=bid.price_for(SMALL),
        expected_ms=1000,
        awarded_at=datetime.now(UTC),
    )
    return WorkerLaunch(
        run_id=lease.run_id,
        worker_key=provider.worker_key(lease),
        arguments=("-m", "cu_market.deo.worker.probe"),
        working_directory=os.getcwd(),
        allocation=lease,
        starter=f"check/{os.getpid()}/{lease.run_id}",
        carrier=carrier,
    )


def _question(needs: Needs, shared: Path) -> dict[str, Any]:
    return {
        "modules": needs.modules,
        "files": needs.files,
        "addresses": needs.addresses,
        "variables": needs.variables,
        "shared": str(shared),
    }


def _how_it_ended(worker: Worker) -> WorkerEnd | None:
    """Returns how a worker that has gone silent ended; its channel may close before its process."""
    deadline = time.monotonic() + END_SECONDS
    while (end := worker.end()) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return end


def _compare_clocks(worker: Worker, timeout_seconds: float) -> float:
    """Returns by how many seconds the worker's clock is ahead, the shortest of three ways."""
    ways: list[tuple[float, float]] = []
    for _ in range(3):
        asked_at = time.time()
        there = _ask(worker, {}, timeout_seconds)["clock_us"] / 10**6
        answered_at = time.time()
        ways.append((answered_at - asked_at, there - (asked_at + answered_at) / 2))
    return min(ways)[1]


def _ask(worker: Worker, question: Mapping[str, Any], timeout_seconds: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_seconds
    worker.send(json.dumps(question).encode() + b"\n")
    said = b""
    with selectors.DefaultSelector() as selector:
        selector.register(worker, selectors.EVENT_READ)
        while not said.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError(f"no answer within {timeout_seconds:g} s")
            part = worker.receive()
            if not part:
                raise EOFError(f"its worker {worker.holder} ended without an answer")
            said += part
    answer: dict[str, Any] = json.loads(said)
    return answer
