"""``python -m cu_market.deo.channel.bridge``: the worker's end of a channel through the database.

Beside a pod's process 1, which has started it and knows nothing of databases: it finds the ledger
as the environment names it, waits for the run worker's newest link, and copies between that and the
socket of process 1. It ends when its standard input does, after it has stored what it still had.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import select
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cu_market.deo.channel.link import (
    LONGEST_SECONDS,
    MAX_BODY_BYTES,
    SHORTEST_SECONDS,
    SILENCE_SECONDS,
    WAIT_SHARE,
    Link,
    LinkError,
    channel_of,
)
from cu_market.domain.problem import CUMarketError, InvalidInputError
from cu_market.ledger.channel_sql import open_channels
from cu_market.ledger.channels import Channels, Post, Sender
from cu_market.ledger.errors import LedgerError
from cu_market.ledger.location import follow
from cu_market.ral.kubernetes.carrier_process import GAVE_UP
from cu_market.ral.kubernetes.host import SOCKET_PREFIX, TOKEN_VARIABLE

LEDGER_VARIABLE = "CU_MARKET_LEDGER"
"""How the ledger is named, as JSON: a reference, see ledger.location."""

FIRST_SECONDS = 60.0
"""How long the database is tried to be reached at first: a way that never was is a mistake."""

_PAUSE_SECONDS = 0.2
_LAST_WORDS = Path("/dev/termination-log")
"""What is written there is in the pod's status, and so in the run's page."""

logger = logging.getLogger(__name__)


class Bridge:
    """Carries between the database and a socket.

    Args:
        channels: the ledger's.
        token: names channel and socket.
        order: a descriptor that becomes readable when it is time to end.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        channels: Channels,
        token: str,
        order: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._channels = channels
        self._channel = channel_of(token)
        self._address = f"\0{SOCKET_PREFIX}{token}"
        self._order = order
        self._clock = clock
        self._taker = secrets.token_hex(8)
        self._is_ending = False

    def run(self) -> None:
        """Serves one link after the other until it is time to end."""
        former = None
        while (name := self._await_link(former)) is not None:
            former = name
            link = Link(self._channel, name, self._clock())
            try:
                with socket.socket(socket.AF_UNIX) as peer:
                    peer.connect(self._address)
                    peer.setblocking(False)
                    self._carry(link, peer)
            except (LinkError, LedgerError, OSError) as error:
                logger.warning("link ended: %s", error, extra={"action": "link_ended"})
                self._say_farewell(link)

    def _await_link(self, former: str | None) -> str | None:
        """Returns the next link, or None once it is time to end."""
        since = self._clock()
        while not self._is_ending:
            try:
                (found,) = self._channels.exchange(
                    Sender.WORKER, [Post(channel=self._channel)]
                ).values()
                if found.link not in (None, former):
                    taken = self._channels.take(self._channel, self._taker)
                    if taken not in (None, former):
                        return taken
            except LedgerError as error:
                logger.warning("no link now: %s", error, extra={"action": "await_link"})
                self._wait([], _PAUSE_SECONDS)
            pause = WAIT_SHARE * (self._clock() - since)
            self._wait([], min(LONGEST_SECONDS, max(SHORTEST_SECONDS, pause)))
        return None

    def _wait(self, watched: list[socket.socket], seconds: float) -> bool:
        """Waits for the sockets, the order to end or that time; whether a socket has something."""
        numbers = [each.fileno() for each in watched]
        orders = [] if self._is_ending else [self._order]
        ready, _, _ = select.select([*numbers, *orders], [], [], max(0.0, seconds))
        if self._order in ready:
            self._is_ending = True
        return any(number in ready for number in numbers)

    def _carry(self, link: Link, peer: socket.socket) -> None:
        """Carries until either side has ended.

        Raises:
            LinkError: the link leads nowhere any more.
            LedgerError: the database has been away for so long that the run worker counts as gone.
            OSError: process 1 has closed the connection in disorder.
        """
        to_peer = bytearray()
        has_peer_ended = False
        while True:
            watched = [] if link.is_full or has_peer_ended else [peer]
            pause = min(LONGEST_SECONDS, link.next_look - self._clock())
            if self._wait(watched, min(pause, SHORTEST_SECONDS) if to_peer else pause):
                has_peer_ended = self._read(link, peer)
            if to_peer:
                with contextlib.suppress(BlockingIOError):
                    del to_peer[: peer.send(to_peer)]
            if not to_peer:
                link.taken()
            if link.next_look <= self._clock():
                for body in self._exchange(link):
                    to_peer += body
            if has_peer_ended and link.is_delivered:
                return
            if link.has_ended and not to_peer:
                return
            if self._clock() - link.heard_at > SILENCE_SECONDS:
                raise LinkError(f"nothing heard for {SILENCE_SECONDS:.0f} s")

    def _read(self, link: Link, peer: socket.socket) -> bool:
        """Takes what process 1 has for the run worker; whether that was its last."""
        while not link.is_full:
            try:
                data = peer.recv(MAX_BODY_BYTES)
            except BlockingIOError:
                return False
            if not data:
                link.end()
                return True
            link.write(data)
        return False

    def _exchange(self, link: Link) -> list[bytes]:
        post = link.post()
        try:
            answer = self._channels.exchange(Sender.WORKER, [post])
        except LedgerError as error:
            if self._clock() - link.heard_at > SILENCE_SECONDS or self._is_ending:
                raise
            logger.warning("database away: %s", error, extra={"action": "exchange"})
            self._wait([], _PAUSE_SECONDS)
            return []
        return list(link.took(post, answer[post.channel], self._clock()))

    def _say_farewell(self, link: Link) -> None:
        """Tells the run worker, should it be there, that this link is over."""
        link.end()
        with contextlib.suppress(LedgerError, LinkError):
            self._exchange(link)


def _open(reference: str, clock: Callable[[], float] = time.monotonic) -> Channels:
    """Returns the ledger's channels; tries for FIRST_SECONDS.

    Raises:
        InvalidInputError: no such ledger.
        LedgerError: it could not be reached.
    """
    url = follow(json.loads(reference), LEDGER_VARIABLE)
    began = clock()
    while True:
        try:
            return open_channels(url)
        except LedgerError as error:
            if clock() - began > FIRST_SECONDS:
                raise
            logger.warning("not yet: %s", error, extra={"action": "open"})
            time.sleep(1.0)


def main() -> int:
    """Carries for the process whose environment this is; GAVE_UP if it never could."""
    logging.basicConfig(format="cu_market: %(message)s", level=logging.WARNING)
    token, reference = os.environ.get(TOKEN_VARIABLE), os.environ.get(LEDGER_VARIABLE)
    if not token or not reference:
        print(
            f"cu_market.deo.channel.bridge: wants {TOKEN_VARIABLE} and {LEDGER_VARIABLE}; a pod's "
            "process 1 starts this program, it is not started by hand",
            file=sys.stderr,
        )
        return GAVE_UP
    try:
        channels = _open(reference)
    except (InvalidInputError, CUMarketError) as error:
        said = f"the ledger's database cannot carry this pod's channel: {error}"
        print(f"cu_market: {said}", file=sys.stderr, flush=True)
        if _LAST_WORDS.exists():
            with contextlib.suppress(OSError):
                _LAST_WORDS.write_text(said[:1000])
        return GAVE_UP
    Bridge(channels, token, sys.stdin.fileno()).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
