"""A pod's channel through a real database: cuts, deaths and followers lose nothing."""

from __future__ import annotations

import os
import select
import signal

import pytest
from channel_pods import Start, ledger_of, reference_of, say
from cutting_proxy import CuttingProxy
from postgres_server import PostgresServer

from cu_market.deo.channel.carrier import DatabaseCarrier, DatabaseChannel
from cu_market.ledger.location import Reference
from cu_market.ral.carrier import CutError
from cu_market.ral.kubernetes.session import Session

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]


def test_any_number_of_cuts_loses_nothing(reference: Reference, started: Start) -> None:
    pod = started(reference)
    sent = received = b""
    for word in (b"one ", b"two ", b"three ", b"four "):
        pod.session.write(word)
        sent += word.upper()
        received += pod.exchange(1)
        pod.drop()  # part of the answer is still on its way
    received += pod.exchange(len(sent) - len(received))
    assert received == sent


def test_what_carries_is_killed_in_the_midst_and_started_again(
    reference: Reference, started: Start
) -> None:
    pod = started(reference)
    say(pod, b"before")
    words = b"".join(b"%07d " % n for n in range(500_000))
    pod.session.write(words)
    received = pod.exchange(1)
    victim = pod.carrying_process()
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    received += pod.exchange(len(words) - len(received))
    assert received == words.upper()
    assert pod.cuts >= 1
    assert pod.carrying_process() not in (None, victim)


def test_a_run_workers_end_that_died_is_followed_by_another(
    reference: Reference, started: Start
) -> None:
    pod = started(reference)
    say(pod, b"before")
    # It dies in the midst of a message, and before the answer to another was read.
    dead = pod.channel
    assert dead is not None
    pod.session.write(b"on its way ")
    dead.send(pod.session.to_send())
    until_arrived(dead)
    pod.session.write(b"cut in half ")
    dead.send(pod.session.to_send()[:20])
    with ledger_of(pod) as other:
        pod.carrier = DatabaseCarrier(other.channels, "unused")
        pod.channel = None
        pod.session.write(b"after")
        assert pod.exchange(28) == b"ON ITS WAY CUT IN HALF AFTER"
        pod.drop()
    dead.close()


def test_a_run_worker_that_takes_over_has_what_was_not_stored_and_keeps_the_channel(
    reference: Reference, started: Start
) -> None:
    pod = started(reference)
    pod.session = Session(pod.token, epoch=0, is_told=True)
    say(pod, b"stored")
    pod.session.store(6)
    say(pod, b"received")
    predecessor, left = pod.carrier, pod.channel
    assert left is not None
    with ledger_of(pod) as other:
        pod.carrier = DatabaseCarrier(other.channels, "unused")
        pod.session, pod.epoch = Session(pod.token, epoch=7, is_told=True), 7
        pod.channel = None
        assert pod.exchange(8) == b"RECEIVED"
        pod.session.store(8)
        say(pod, b"after")
        # The predecessor was only cut off: it tries again, and clears away what it thinks its own.
        with pytest.raises(CutError, match="took over"):
            receive_all(left)
        with pytest.raises(CutError, match="has taken over"):
            predecessor.connect(pod.token, "run")
        predecessor.forget(pod.token)
        say(pod, b"still here")
        assert pod.cuts == 0
        pod.drop()
    left.close()


def test_the_newest_connection_displaces_the_older(reference: Reference, started: Start) -> None:
    pod = started(reference)
    say(pod, b"first")
    with ledger_of(pod) as other:
        thief = DatabaseCarrier(other.channels, "unused").connect(pod.token, "run")
        assert pod.channel is not None
        select.select([pod.channel], [], [], 240.0)
        with pytest.raises(CutError, match="took over"):
            receive_all(pod.channel)
        thief.close()
    pod.drop()
    say(pod, b"again")


def receive_all(channel: DatabaseChannel) -> None:
    while True:
        channel.receive()


def until_arrived(channel: DatabaseChannel) -> None:
    assert select.select([channel], [], [], 240.0)[0]


@pytest.mark.postgres
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_database_restart_is_a_pause(server: PostgresServer, started: Start, how: str) -> None:
    pod = started(reference_of(server))
    say(pod, b"before")
    words = b"".join(b"%07d " % n for n in range(200_000))
    pod.session.write(words)
    received = pod.exchange(1)
    getattr(server, how)()
    server.start()
    received += pod.exchange(len(words) - len(received))
    assert received == words.upper()


@pytest.mark.postgres
@pytest.mark.parametrize("statement", [b"INSERT INTO cu_market.parcels", b"DELETE FROM", b"COMMIT"])
def test_a_lost_answer_stores_nothing_twice(
    server: PostgresServer, started: Start, statement: bytes
) -> None:
    proxy = CuttingProxy(server.host, server.port)
    pod = started(reference_of(server, proxy.port), theirs=reference_of(server))
    try:
        received = sent = b""
        for number in range(20):
            if number % 4 == 0:
                proxy.cut_after(statement)
            words = b"%03d " % number
            sent += words
            pod.session.write(words)
            received += pod.exchange(4)
        received += pod.exchange(len(sent) - len(received)) if len(received) < len(sent) else b""
        assert received == sent
        assert proxy.cuts >= 3
    finally:
        proxy.close()
