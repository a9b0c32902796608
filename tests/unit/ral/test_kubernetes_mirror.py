"""A watch that is cut says that it backs off and why, sells what it has, and finds its way back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from cu_market.ral.kubernetes.api import ClusterError
from cu_market.ral.kubernetes.mirror import Mirror

PATH = "/api/v1/nodes"


class Server:
    """An API that answers or not, as it is told; its watch is silent until then."""

    def __init__(self, *, is_up: bool) -> None:
        self.is_up = is_up
        self.cut = threading.Event()
        self.met = threading.Semaphore(0)

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        if not self.is_up:
            self.met.release()
            raise ClusterError("no route to host")
        item = {"metadata": {"name": "node"}}
        return {"items": [item], "metadata": {"resourceVersion": "1"}}

    def watch(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        self.cut.wait()
        raise ClusterError("connection reset")
        yield {}


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(is_up=False)
    yield made
    made.cut.set()


def test_a_cluster_that_was_never_reached(server: Server) -> None:
    mirror = Mirror(server, PATH)  # type: ignore[arg-type]
    mirror.start()
    assert server.met.acquire(timeout=120)
    assert server.met.acquire(timeout=120)  # the first failure is noted by now
    with pytest.raises(ClusterError, match=r"backing off .* s after .*nodes: no route to host"):
        mirror.items(wait_seconds=0, stale_seconds=3600)
    server.is_up = True
    assert len(mirror.items(wait_seconds=120, stale_seconds=3600)) == 1
    assert mirror.backing_off() == ""
    mirror.stop()


def test_what_was_heard_is_sold_while_it_backs_off(server: Server) -> None:
    server.is_up = True
    mirror = Mirror(server, PATH)  # type: ignore[arg-type]
    assert len(mirror.items(wait_seconds=120, stale_seconds=3600)) == 1
    server.is_up = False
    server.cut.set()
    assert server.met.acquire(timeout=120)
    assert server.met.acquire(timeout=120)
    assert "no route to host" in mirror.backing_off()
    assert len(mirror.items(wait_seconds=0, stale_seconds=3600)) == 1
    with pytest.raises(ClusterError, match="backing off"):
        mirror.items(wait_seconds=0, stale_seconds=0)
    mirror.stop()
