"""A warm pod as the run worker sees it: a worker with a channel, whatever the API server does.

A thread makes the pod, waits until it runs, and carries the session over its route. A cut channel
is not a lost pod: it is connected anew until the pod's status says that it has ended, or until the
pod, unreached for too long, has ended itself. A pod may outlive its run worker: it is then left
running, and taken over by the next.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from cu_market.ral.carrier import Channel, CutError
from cu_market.ral.kubernetes.api import ClusterApi, ClusterError, Json
from cu_market.ral.kubernetes.endings import end_of, is_hopeless, is_running, waiting_words
from cu_market.ral.kubernetes.mirror import Mirror
from cu_market.ral.kubernetes.pod_terms import (
    EARLY_SECONDS,
    FAREWELL_SECONDS,
    HOPELESS_SECONDS,
    PING_SECONDS,
    SILENCE_SECONDS,
    STATUS_SECONDS,
    PodTerms,
    pauses_between,
)
from cu_market.ral.kubernetes.routes import Route
from cu_market.ral.kubernetes.session import Session, SessionError
from cu_market.ral.provider import EndKind, WorkerEnd

logger = logging.getLogger(__name__)


class WarmPod:
    """One pod and its channel. The methods are for one thread, which is not the pod's own.

    Args:
        holder: names the pod for its provider.
        manifest: what to create.
        token: the session's.
        route: how its process 1 is reached.
        api: the cluster's.
        pods: a mirror in which the pod will be seen.
        terms: how long to wait for what.
        refine: makes an end more exact by what else is known of the cluster.
        is_told: whether what arrives is kept in the pod until it is acknowledged.
        epoch: 0 for a pod that is to be made; else it is there, and is taken over from whoever had
            it in an earlier epoch. Its manifest is then the pod itself.
    """

    def __init__(
        self,
        holder: str,
        manifest: Mapping[str, Any],
        token: str,
        *,
        route: Route,
        api: ClusterApi,
        pods: Mirror,
        terms: PodTerms,
        refine: Callable[[WorkerEnd, Json | None], WorkerEnd] = lambda end, _: end,
        is_told: bool = False,
        epoch: int = 0,
    ) -> None:
        self.holder = holder
        self._manifest = manifest
        self._name = str(manifest["metadata"]["name"])
        self._namespace = str(manifest["metadata"]["namespace"])
        self._route = route
        self._api = api
        self._pods = pods
        self._terms = terms
        self._refine = refine
        self._is_told = is_told
        self._is_adopted = epoch > 0
        self._session = Session(token, epoch=epoch, is_told=is_told)
        self._ours, self._theirs = socket.socketpair()
        # Sockets rather than a pipe: one that is closed is never another's descriptor.
        self._bell, self._rope = socket.socketpair()
        self._bell.setblocking(False)
        self._rope.setblocking(False)
        self._to_pod: deque[bytes] = deque()
        self._acknowledged = 0
        self._told = 0
        self._is_closing = False
        self._is_leaving = False
        self._is_created = False
        self._end: WorkerEnd | None = None
        self._heard_at = 0.0
        self._created_at = 0.0
        self._early: Channel | None = None
        self._thread = threading.Thread(target=self._run, name=f"pod {self._name}", daemon=True)
        self._thread.start()

    # -- the worker's contract

    def fileno(self) -> int:
        """Returns a descriptor that is readable when receive() would not block; -1 once closed."""
        return self._ours.fileno()

    def send(self, data: bytes) -> None:
        """Keeps data for the pod, which may not run yet; never blocks.

        Raises:
            BrokenPipeError: the worker has ended.
        """
        if self._end is not None or self._is_closing:
            raise BrokenPipeError(f"worker {self.holder} has ended")
        self._to_pod.append(data)
        self._wake()

    def receive(self) -> bytes:
        """Returns what has arrived, about 64 KiB at most; empty when the channel has closed."""
        if self._ours.fileno() < 0:
            return b""
        return self._ours.recv(65536)

    def close(self) -> None:
        """Closes the channel: the worker then ends itself and its steps, and the pod is deleted."""
        self._is_closing = True
        self._ours.close()
        self._wake()

    def acknowledge(self, size: int) -> None:
        """Says that so many more received bytes are dealt with: the pod keeps them no more."""
        if self._is_told:
            self._acknowledged += size
            self._wake()

    def leave(self) -> None:
        """Closes the channel, and waits shortly until the pod has what was said before; it goes on
        with its step, for another run worker to adopt."""
        self._is_leaving = True
        self.close()
        self._thread.join(FAREWELL_SECONDS)

    def exit_code(self) -> int | None:
        """Returns the worker's exit code, 1 where it is unknown, or None while it may run."""
        if self._end is None or self._thread.is_alive():
            return None
        return 1 if self._end.exit_code is None else self._end.exit_code

    def end(self) -> WorkerEnd | None:
        """Returns how it ended, or None while it lives."""
        return self._end

    def join(self, seconds: float) -> bool:
        """Waits until the pod is deleted; whether it was in that time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full, or the thread has ended: it needs no waking
            self._rope.send(b"!")

    # -- the thread

    def _run(self) -> None:
        try:
            begin = self._rejoin if self._is_adopted else self._create
            end = begin() or self._await_start() or self._converse()
        except Exception as error:
            logger.exception("pod's thread failed", extra={"action": "pod", "pod": self._name})
            end = WorkerEnd(kind=EndKind.LOST, detail=f"{type(error).__name__}: {error}")
        pod, _ = self._look()
        self._end = self._refine(end, pod)
        self._theirs.close()
        if not self._is_leaving:
            if self._is_created:
                self._delete()
            self._route.forget()
        self._route.close()
        self._pods.forget(self._key)
        self._bell.close()
        self._rope.close()

    @property
    def _key(self) -> str:
        return f"{self._namespace}/{self._name}"

    @property
    def _path(self) -> str:
        return f"/api/v1/namespaces/{self._namespace}/pods"

    def _look(self) -> tuple[Json | None, bool]:
        return self._pods.get(self._key)

    def _status_end(self) -> WorkerEnd | None:
        pod, is_gone = self._look()
        return end_of(pod, is_gone=is_gone)

    def _create(self) -> WorkerEnd | None:
        """Makes the pod; returns why not, if it cannot be."""
        self._pods.start()
        deadline = time.monotonic() + self._terms.pending_seconds
        for pause in pauses_between():
            if self._is_closing:
                return _closed()
            try:
                self._api.create(self._path, self._manifest)
            except ClusterError as error:
                was_lost = error.status == 409 and error.reason == "AlreadyExists"
                if was_lost and self._is_created:
                    return None  # the answer to an earlier try was lost
                self._is_created = self._is_created or error.is_transient
                if not error.is_transient or time.monotonic() > deadline:
                    return WorkerEnd(kind=EndKind.UNSTARTED, detail=str(error))
                self._sleep(pause)
            else:
                self._is_created, self._created_at = True, time.monotonic()
                return None
        return None

    def _rejoin(self) -> WorkerEnd | None:
        """Waits until the mirror sees the pod to take over; returns that it is gone, if it is."""
        self._is_created, self._created_at = True, time.monotonic()

        def is_seen() -> bool | None:
            pod, _ = self._look()
            return True if pod is not None or self._is_closing else None

        def is_listed() -> bool | None:
            return True if self._pods.silence_seconds() is not None else is_seen()

        while not self._pods.wait(is_listed, 1.0):
            pass
        # Labels that were written just now come by the watch, which may be behind.
        if not self._pods.wait(is_seen, STATUS_SECONDS):
            return WorkerEnd(kind=EndKind.DELETED, detail=f"pod {self._name} is gone")
        return None

    def _await_start(self) -> WorkerEnd | None:
        """Waits until the pod runs; returns why it will not."""
        deadline = time.monotonic() + self._terms.pending_seconds
        hopeless_since: float | None = None
        tries = deque(EARLY_SECONDS if self._created_at else ())
        while True:
            pod, _ = self._look()
            if end := self._status_end():
                return end
            if pod is not None and is_running(pod):
                return None
            if tries and time.monotonic() - self._created_at >= tries[0]:
                tries.popleft()
                if pod is not None and pod["spec"].get("nodeName"):
                    self._early = self._route.reach_early(self._greet)
                    if self._early is not None:
                        return None
            now = time.monotonic()
            if is_hopeless(pod):
                hopeless_since = hopeless_since or now
            is_over = now > deadline or (
                hopeless_since is not None and now - hopeless_since > HOPELESS_SECONDS
            )
            if is_over and not self._is_unreachable():
                return WorkerEnd(kind=EndKind.UNSTARTED, detail=waiting_words(pod))
            if self._is_closing:
                return _closed()
            until_try = tries[0] - (time.monotonic() - self._created_at) if tries else 0.5
            self._pods.wait(self._has_news, min(0.5, max(0.01, until_try)))

    def _has_news(self) -> bool | None:
        pod, is_gone = self._look()
        if self._is_closing or is_gone or (pod is not None and is_running(pod)):
            return True
        return True if end_of(pod, is_gone=is_gone) else None

    def _is_unreachable(self) -> bool:
        """Whether the API is silent: a deadline that it could not see to does not count."""
        return self._pods.trouble is not None and self._pods.trouble.is_transient

    def _converse(self) -> WorkerEnd:
        """Carries the session, through as many connections as it takes."""
        self._heard_at = time.monotonic()
        pauses = pauses_between()
        said = ""
        while True:
            try:
                channel, self._early = self._early or self._route.connect(self._greet), None
                with contextlib.closing(channel):
                    if self._pump(channel):
                        return self._told_end()
            except (ClusterError, CutError, SessionError) as error:
                said = str(error)
                logger.info("channel cut", extra={"action": "channel_cut", "pod": self._name})
            if time.monotonic() - self._heard_at < SILENCE_SECONDS:
                pauses = pauses_between()  # it was up just now
            if self._is_closing:
                return _closed()
            if end := self._status_end():
                return end
            if time.monotonic() - self._heard_at > self._terms.disconnect_seconds + 30:
                return WorkerEnd(kind=EndKind.LOST, detail=f"pod {self._name}: unreached: {said}")
            self._sleep(next(pauses))

    def _greet(self) -> bytes:
        """Begins the session anew on a connection that was just made; returns what to say first."""
        self._session.connected()
        return self._session.to_send()

    def _pump(self, channel: Channel) -> bool:
        """Carries bytes until either side has ended: True if in order.

        Raises:
            ClusterError, CutError, SessionError: the connection is of no use any more.
        """
        heard_at = pinged_at = time.monotonic()
        farewell_at: float | None = None
        while True:
            is_leaving = self._is_leaving  # looked at first: what was said before it is sent below
            self._take_from_owner()
            while data := self._session.to_send():
                channel.send(data)
            now = time.monotonic()
            if self._session.peer_end is not None:
                return True
            if is_leaving:
                return True
            if self._is_closing:
                farewell_at = farewell_at or now + FAREWELL_SECONDS
                if now > farewell_at:
                    return True
            if now - heard_at > SILENCE_SECONDS:
                raise ClusterError(f"nothing heard for {SILENCE_SECONDS:.0f} s")
            if now - max(heard_at, pinged_at) > PING_SECONDS:
                pinged_at = now
                self._session.ping()
                continue
            if not channel.has_buffered():
                timeout = 0.1 if self._is_closing else PING_SECONDS / 2
                watched = [channel.fileno(), self._bell.fileno()]
                ready, _, _ = select.select(watched, [], [], timeout)
                if channel.fileno() not in ready:
                    continue
            received = self._session.feed(channel.receive())
            self._heard_at = heard_at = time.monotonic()
            if received and not self._is_closing:
                with contextlib.suppress(OSError):  # the owner has just closed its end
                    self._theirs.sendall(received)

    def _take_from_owner(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(4096)
        while self._to_pod:
            self._session.write(self._to_pod.popleft())
        if (size := self._acknowledged - self._told) > 0:
            self._told += size
            self._session.store(size)
        if self._is_closing and not self._is_leaving:
            self._session.end("the run worker is done")

    def _told_end(self) -> WorkerEnd:
        """Returns the end that the pod told, or what the API knows of its cause."""
        said = self._session.peer_end
        if said is None or self._is_closing:
            return _closed()
        code = int(said.rsplit(" ", 1)[-1]) if said.rsplit(" ", 1)[-1].lstrip("-").isdigit() else 1
        told = WorkerEnd(kind=EndKind.EXITED, detail=f"pod {self._name}: {said}", exit_code=code)
        if code == 0:
            return told
        witness = self._pods.wait(self._status_end, STATUS_SECONDS)
        return told if witness is None else replace(witness, exit_code=witness.exit_code or code)

    def _delete(self) -> None:
        for pause in pauses_between():
            try:
                self._api.delete(f"{self._path}/{self._name}", grace_seconds=1)
            except ClusterError as error:
                if not error.is_transient:
                    logger.warning(
                        "pod not deleted", extra={"action": "delete_pod", "error": str(error)}
                    )
                    return
                if time.monotonic() - self._heard_at > self._terms.disconnect_seconds:
                    return  # it has ended itself; the reaper finds what is left of it
                time.sleep(pause)
            else:
                return

    def _sleep(self, seconds: float) -> None:
        """Sleeps, but not while the owner closes."""
        if self._is_closing:
            time.sleep(seconds)
        else:
            select.select([self._bell], [], [], seconds)
            self._take_from_owner()


def _closed() -> WorkerEnd:
    return WorkerEnd(kind=EndKind.EXITED, detail="closed by the run worker", exit_code=0)
