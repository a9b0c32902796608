"""Channels in memory: the twin that tests use. Gone with its process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cu_market.ledger.channels import Delivery, Post, Sender


@dataclass(slots=True)
class _Channel:
    run_id: str
    link: str
    epoch: int
    opened_at: datetime
    taker: str = ""
    parcels: dict[Sender, dict[int, bytes]] = field(
        default_factory=lambda: {sender: {} for sender in Sender}
    )


class InMemoryChannels:
    """See channels.Channels.

    Args:
        living_runs: returns the ids of runs whose run worker has not ended.
    """

    def __init__(self, living_runs: Callable[[], Collection[str]]) -> None:
        self._living_runs = living_runs
        self._turn = threading.Lock()
        self._channels: dict[str, _Channel] = {}

    def open(self, channel: str, run_id: str, link: str, *, epoch: int = 0, now: datetime) -> bool:
        """Makes a link the channel's present one, if that is not of a later epoch."""
        with self._turn:
            former = self._channels.get(channel)
            if former is not None and former.epoch > epoch:
                return False
            if former is None or former.link != link:
                self._channels[channel] = _Channel(run_id, link, epoch, now)
            return True

    def take(self, channel: str, taker: str) -> str | None:
        """Returns the present link, taken by this taker, or None."""
        with self._turn:
            found = self._channels.get(channel)
            if found is None:
                return None
            if found.taker not in ("", taker):
                del self._channels[channel]
                return None
            found.taker = taker
            return found.link

    def exchange(self, sender: Sender, posts: Sequence[Post]) -> Mapping[str, Delivery]:
        """Stores, deletes and returns parcels."""
        with self._turn:
            return {post.channel: self._exchange(sender, post) for post in posts}

    def _exchange(self, sender: Sender, post: Post) -> Delivery:
        found = self._channels.get(post.channel)
        if found is None or found.link != post.link:
            return Delivery(link=None if found is None else found.link)
        own, theirs = found.parcels[sender], found.parcels[sender.other]
        delivery = Delivery(
            link=post.link,
            parcels=tuple(sorted((n, body) for n, body in theirs.items() if n > post.seen_to)),
            stale=tuple(sorted(n for n in theirs if n <= post.seen_to)),
            unread=len(own),
        )
        for number, body in post.parcels:
            own.setdefault(number, body)
        for number in [n for n in theirs if n <= post.taken_to]:
            del theirs[number]
        return delivery

    def forget(self, channel: str, *, epoch: int = 0) -> None:
        """Deletes a channel and all that is under way, unless its link is of a later epoch."""
        with self._turn:
            found = self._channels.get(channel)
            if found is not None and found.epoch <= epoch:
                del self._channels[channel]

    def forget_run(self, run_id: str) -> int:
        """Deletes every channel of a run; returns how many."""
        return self._forget(lambda each: each.run_id == run_id)

    def forget_dead(self, *, before: datetime) -> int:
        """Deletes what no living run worker can want any more; returns how many channels."""
        living = self._living_runs()
        return self._forget(lambda each: each.opened_at < before and each.run_id not in living)

    def _forget(self, is_unwanted: Callable[[_Channel], bool]) -> int:
        with self._turn:
            unwanted = [name for name, each in self._channels.items() if is_unwanted(each)]
            for name in unwanted:
                del self._channels[name]
            return len(unwanted)
