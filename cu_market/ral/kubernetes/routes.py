"""The ways from a run worker to a pod's process 1: exec through the API server, or a carrier."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol, TypeVar

from cu_market.ral.carrier import Carrier, Channel, CutError
from cu_market.ral.kubernetes.api import ClusterApi, ClusterError
from cu_market.ral.kubernetes.exec_channel import ExecChannel
from cu_market.ral.kubernetes.host import SOCKET_PREFIX

_Made = TypeVar("_Made", bound=Channel)


class Route(Protocol):
    """One pod's way.

    Process 1 says nothing on a connection before it was greeted: ``greet`` returns the first bytes
    for a connection that was just made, and is called once for each.
    """

    def connect(self, greet: Callable[[], bytes]) -> Channel:
        """Returns a connection to a pod that runs, greeted.

        Raises:
            ClusterError, CutError: not now.
        """

    def reach_early(self, greet: Callable[[], bytes]) -> Channel | None:
        """Returns a connection if the pod answers, though nobody has said yet that it runs."""

    def close(self) -> None:
        """Closes what of it is open here."""

    def forget(self) -> None:
        """Clears away what is left of it elsewhere; the pod has ended."""


class ExecRoute:
    """Exec of a bridge in the pod.

    Args:
        api: the cluster's.
        namespace, pod, container: where.
        python: the interpreter there.
        token: the session's.
    """

    def __init__(
        self, api: ClusterApi, *, namespace: str, pod: str, container: str, python: str, token: str
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._pod = pod
        self._container = container
        self._python = python
        self._token = token

    def connect(self, greet: Callable[[], bytes]) -> ExecChannel:
        """Returns an exec of the bridge; see Route."""
        channel = ExecChannel(
            self._api,
            namespace=self._namespace,
            pod=self._pod,
            container=self._container,
            python=self._python,
            name=f"{SOCKET_PREFIX}{self._token}",
        )
        return _greeted(channel, greet)

    def reach_early(self, greet: Callable[[], bytes]) -> ExecChannel | None:
        """Returns an exec of the bridge, if there is anything to exec in."""
        try:
            return self.connect(greet)
        except ClusterError:
            return None  # it does not run yet

    def close(self) -> None:
        """Does nothing: whoever has an exec closes it."""

    def forget(self) -> None:
        """Does nothing: an exec ends with its pod."""


class CarriedRoute:
    """By a carrier, whose connections can be made before their other end is there.

    Args:
        carrier: who carries.
        token: the session's.
        run_id: whose pod it is.
        epoch: the session's.
    """

    def __init__(self, carrier: Carrier, *, token: str, run_id: str, epoch: int) -> None:
        self._carrier = carrier
        self._token = token
        self._run_id = run_id
        self._epoch = epoch
        self._early: Channel | None = None

    def connect(self, greet: Callable[[], bytes]) -> Channel:
        """Returns a connection; see Route."""
        early, self._early = self._early, None
        return early or self._connect(greet)

    def reach_early(self, greet: Callable[[], bytes]) -> Channel | None:
        """Returns a connection once process 1 has answered on it."""
        try:
            self._early = self._early or self._connect(greet)
        except CutError:
            return None
        return self.connect(greet) if self._early.has_buffered() else None

    def close(self) -> None:
        """Closes a connection on which nobody has answered yet."""
        if self._early is not None:
            self._early.close()
            self._early = None

    def forget(self) -> None:
        """Clears away what is left of its connections."""
        self._carrier.forget(self._token, self._epoch)

    def _connect(self, greet: Callable[[], bytes]) -> Channel:
        channel = self._carrier.connect(self._token, self._run_id, self._epoch)
        return _greeted(channel, greet)


def _greeted(channel: _Made, greet: Callable[[], bytes]) -> _Made:
    with contextlib.ExitStack() as stack:
        stack.callback(channel.close)
        channel.send(greet())
        stack.pop_all()
    return channel
