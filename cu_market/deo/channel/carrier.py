"""The run worker's end of channels through the ledger's database: a ral.carrier.Carrier.

One thread looks for all channels of this process together, so that their number costs the database
little. It ends when there is none left, and begins anew with the next.
"""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from cu_market.deo.channel.bridge import LEDGER_VARIABLE
from cu_market.deo.channel.link import Link, LinkError, channel_of
from cu_market.ledger.channels import Channels, Sender
from cu_market.ledger.errors import LedgerError
from cu_market.ledger.location import Reference
from cu_market.ral.carrier import CutError

logger = logging.getLogger(__name__)

GROUP = 32
"""Channels of one exchange: 32 MiB arrive in it at most."""

_FLUSH_SECONDS = 2.0
"""How long a connection that is closed waits until what was sent is stored."""

_SEND_SECONDS = 60.0
"""How long a send waits for a receiver that does not read."""


class DatabaseCarrier:
    """Connections to workers by way of the ledger. Safe between threads.

    Args:
        channels: the ledger's.
        reference: how workers find the same ledger; holds no secret.
        clock: monotonic seconds.

    Attributes:
        program, environment: see ral.carrier.Carrier.
    """

    program = "cu_market.deo.channel.bridge"

    def __init__(
        self,
        channels: Channels,
        reference: Reference,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.environment: Mapping[str, str] = {LEDGER_VARIABLE: json.dumps(reference)}
        self._channels = channels
        self._clock = clock
        self._turn = threading.Condition()
        self._open: dict[str, DatabaseChannel] = {}
        self._thread: threading.Thread | None = None

    def connect(self, token: str, run_id: str, epoch: int = 0) -> DatabaseChannel:
        """Returns a new connection; see ral.carrier.Carrier."""
        name, link = channel_of(token), secrets.token_hex(16)
        try:
            is_open = self._channels.open(name, run_id, link, epoch=epoch, now=datetime.now(UTC))
        except LedgerError as error:
            raise CutError(f"database: {error}") from error
        if not is_open:
            raise CutError("another run worker has taken over")
        channel = DatabaseChannel(name, Link(name, link, self._clock()), self._turn, self._drop)
        with self._turn:
            if name in self._open:
                self._open[name].cut("another connection took over")
            self._open[name] = channel
            self._turn.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="cu_market channels", daemon=True
                )
                self._thread.start()
        return channel

    def forget(self, token: str, epoch: int = 0) -> None:
        """Deletes what is left of a worker's channel; see ral.carrier.Carrier."""
        with _left_to_the_reaper():
            self._channels.forget(channel_of(token), epoch=epoch)

    def forget_run(self, run_id: str) -> None:
        """Deletes what is left of a run's channels; see ral.carrier.Carrier."""
        with _left_to_the_reaper():
            self._channels.forget_run(run_id)

    def _drop(self, channel: DatabaseChannel) -> None:
        """Looks no more for a channel; called in turn."""
        if self._open.get(channel.name) is channel:
            del self._open[channel.name]

    # -- the thread

    def _run(self) -> None:
        while (due := self._await_due()) is not None:
            for start in range(0, len(due), GROUP):
                self._exchange(due[start : start + GROUP])

    def _await_due(self) -> list[DatabaseChannel] | None:
        """Returns the channels to look for now, or None when there is none any more."""
        with self._turn:
            while True:
                if not self._open:
                    self._thread = None
                    return None
                now = self._clock()
                looks = {each: each.link.next_look for each in self._open.values()}
                soonest = min(looks.values())
                if soonest <= now:
                    # Those that are nearly due are looked for in the same exchange.
                    return [each for each, look in looks.items() if look <= now + 0.005]
                self._turn.wait(soonest - now)

    def _exchange(self, group: Sequence[DatabaseChannel]) -> None:
        with self._turn:
            posts = {each: each.link.post() for each in group}
        try:
            answers = self._channels.exchange(Sender.HOME, list(posts.values()))
        except Exception as error:
            # Whatever it is: those who wait for these channels connect anew, and meet it there.
            if not isinstance(error, LedgerError):
                logger.exception("exchange failed", extra={"action": "exchange"})
            with self._turn:
                for each in group:
                    each.cut(f"database: {error}")
            return
        now = self._clock()
        with self._turn:
            for each, post in posts.items():
                try:
                    each.arrive(each.link.took(post, answers[post.channel], now))
                except LinkError as error:
                    each.cut(str(error))
            self._turn.notify_all()


class DatabaseChannel:
    """One connection; see ral.carrier.Channel. Its other methods are the carrier's.

    Args:
        name: the channel's in the database.
        link: its end of it.
        turn: guards all of a carrier's channels.
        drop: tells the carrier that it is closed.
    """

    def __init__(
        self,
        name: str,
        link: Link,
        turn: threading.Condition,
        drop: Callable[[DatabaseChannel], None],
    ) -> None:
        self.name = name
        self.link = link
        self._turn = turn
        self._drop = drop
        self._arrived: deque[bytes] = deque()
        self._cut: str | None = None
        self._bell, self._rope = socket.socketpair()
        self._bell.setblocking(False)
        self._rope.setblocking(False)

    def fileno(self) -> int:
        """Returns a descriptor that is readable when something has arrived, or it was cut."""
        return self._bell.fileno()

    def has_buffered(self) -> bool:
        """Whether something has arrived, or it was cut."""
        with self._turn:
            return bool(self._arrived) or self._cut is not None

    def send(self, data: bytes) -> None:
        """Hands bytes to the carrier; waits while too much is under way.

        Raises:
            CutError: it was cut, or nobody reads at the other end.
        """
        with self._turn:
            self._turn.wait_for(
                lambda: self._cut is not None or not self.link.is_full, _SEND_SECONDS
            )
            if self._cut is not None:
                raise CutError(self._cut)
            if self.link.is_full:
                raise CutError(f"nothing was taken for {_SEND_SECONDS:.0f} s")
            self.link.write(data)
            self._turn.notify_all()

    def receive(self) -> bytes:
        """Returns what has arrived; empty if nothing has.

        Raises:
            CutError: it was cut, and all that came before has been returned.
        """
        with self._turn:
            with contextlib.suppress(BlockingIOError):
                self._bell.recv(4096)
            if not self._arrived and self._cut is not None:
                raise CutError(self._cut)
            data = b"".join(self._arrived)
            self._arrived.clear()
            self.link.taken()
            return data

    def close(self) -> None:
        """Looks no more for what arrives, once what was sent is stored, if that is soon.

        The worker's end notices by the silence, or by the next connection.
        """
        with self._turn:
            self._turn.wait_for(
                lambda: self._cut is not None or self.link.is_delivered, _FLUSH_SECONDS
            )
            self._cut = self._cut or "closed"
            self._drop(self)
            self._turn.notify_all()
        self._bell.close()
        self._rope.close()

    def arrive(self, bodies: Sequence[bytes]) -> None:
        """Takes what the database had; in turn."""
        self._arrived.extend(bodies)
        if bodies:
            self._ring()
        if self.link.has_ended:
            self.cut("the worker's end has ended")

    def cut(self, why: str) -> None:
        """Ends it; in turn."""
        if self._cut is None:
            self._cut = why
            self._drop(self)
            self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # full, or closed
            self._rope.send(b"!")


@contextlib.contextmanager
def _left_to_the_reaper() -> Iterator[None]:
    """Lets what cannot be deleted now be deleted by any daemon, later."""
    try:
        yield
    except LedgerError:
        logger.warning("channels not deleted now", extra={"action": "forget_channels"})
