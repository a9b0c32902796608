"""One end of a link: numbers what is sent, orders what arrives, says when to look again. No I/O.

A link is a stream of bytes each way, in parcels that the database keeps until their receiver has
them. Whatever is posted may be posted again: a database may do as it was told and lose its answer.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence

from cu_market.ledger.channels import Delivery, Parcel, Post

MAX_BODY_BYTES = 256 * 1024
MOST_UNREAD = 4
"""Parcels that may wait for their receiver: what a channel takes of the database at most, a MiB
each way."""

SHORTEST_SECONDS = 0.01
LONGEST_SECONDS = 0.5
WAIT_SHARE = 0.1
"""Of a silence: so long after it began the database is looked at again. So a wait adds a tenth to
a silence at most, and a channel that is silent for minutes costs two looks a second."""

PATIENT_BYTES = 13
"""So few, a session's message without a body (that something was received, a sign of life), wait
for the next look: more soon follows, and is stored in the same transaction."""

SILENCE_SECONDS = 35.0
"""Three pings of the run worker's, and a bit: whoever is silent for longer is not there."""


class LinkError(Exception):
    """A link that does not lead on: displaced, ended, or with a parcel missing."""


def channel_of(token: str) -> str:
    """Returns the name under which the database knows a session: its token opens it, and is not
    told to whoever may list channels."""
    return hashlib.sha256(f"cu_market channel {token}".encode()).hexdigest()[:32]


class Link:
    """See the module's docstring.

    Args:
        channel: whose link.
        name: of the link.
        now: monotonic seconds.

    Attributes:
        has_ended: whether the other end has said that no more follows.
        heard_at: when a parcel of the other end was last seen.
    """

    def __init__(self, channel: str, name: str, now: float) -> None:
        self.name = name
        self.has_ended = False
        self.heard_at = now
        self._channel = channel
        self._moved_at = now
        self._looked_at = float("-inf")
        self._loose = bytearray()
        self._is_ending = False
        self._kept: deque[Parcel] = deque()
        self._number = 0
        self._unread = 0
        self._seen_to = 0
        self._taken_to = 0
        self._deleted_to = 0

    # -- the owner's side

    def write(self, data: bytes) -> None:
        """Takes bytes for the other end."""
        self._loose += data

    def end(self) -> None:
        """Says that no more is written."""
        self._is_ending = True

    def taken(self) -> None:
        """Notes that all that has arrived so far is in good hands: it may be deleted."""
        self._taken_to = self._seen_to

    @property
    def is_full(self) -> bool:
        """Whether the owner should write no more for a while."""
        return len(self._loose) >= MOST_UNREAD * MAX_BODY_BYTES

    @property
    def is_delivered(self) -> bool:
        """Whether the database has all that was written."""
        return not (self._loose or self._kept or self._is_ending)

    # -- the database's side

    @property
    def next_look(self) -> float:
        """When to exchange next, in monotonic seconds; at once if there is much to store."""
        is_much = len(self._loose) > PATIENT_BYTES or self._is_ending
        if self._has_room and (self._kept or is_much):
            return float("-inf")
        pause = WAIT_SHARE * (self._looked_at - self._moved_at)
        return self._looked_at + min(LONGEST_SECONDS, max(SHORTEST_SECONDS, pause))

    @property
    def _has_room(self) -> bool:
        return self._unread < MOST_UNREAD

    def post(self) -> Post:
        """Returns what to tell the database; the same again until took() has its answer."""
        while len(self._kept) + self._unread < MOST_UNREAD and (self._loose or self._is_ending):
            body = bytes(self._loose[:MAX_BODY_BYTES])
            del self._loose[: len(body)]
            if not body:
                self._is_ending = False
            self._number += 1
            self._kept.append((self._number, body))
        return Post(
            channel=self._channel,
            link=self.name,
            parcels=tuple(self._kept),
            seen_to=self._seen_to,
            taken_to=self._taken_to if self._taken_to > self._deleted_to else 0,
        )

    def took(self, post: Post, delivery: Delivery, now: float) -> Sequence[bytes]:
        """Returns what has arrived, in order.

        Args:
            post: what the database was told.
            delivery: what it answered.
            now: monotonic seconds.

        Raises:
            LinkError: the link is not the present one, or a parcel is missing.
        """
        self._looked_at = now
        if delivery.link != self.name:
            raise LinkError("another connection took over" if delivery.link else "it is gone")
        stored = {number for number, _ in post.parcels}
        self._kept = deque(each for each in self._kept if each[0] not in stored)
        self._unread = delivery.unread + len(stored)
        self._deleted_to = max(self._deleted_to, post.taken_to)
        if any(number <= self._deleted_to for number in delivery.stale):
            self._deleted_to = 0  # stored twice, as a sender does whose answer was lost
        arrived = []
        for number, body in delivery.parcels:
            if number != self._seen_to + 1:
                raise LinkError(f"parcel {number} came after {self._seen_to}")
            self._seen_to = number
            if body:
                arrived.append(body)
            else:
                self.has_ended = True
        if delivery.parcels:
            self.heard_at = now
        if delivery.parcels or stored:
            self._moved_at = now
        return arrived
