"""Work beside the loop: one piece at a time, taken up once, whatever becomes of it."""

from __future__ import annotations

import threading

import pytest

from cu_market.deo.executor.aside import Aside, Done

LIMIT_SECONDS = 30.0


def done(aside: Aside[int]) -> Done[int]:
    """Waits for the thread, and takes up what it has come to."""
    for thread in threading.enumerate():
        if thread.name == "cu_market sum":
            thread.join(LIMIT_SECONDS)
    found = aside.take()
    assert found is not None
    return found


def test_what_it_came_to_is_taken_up_once() -> None:
    aside, may_end = Aside[int]("sum"), threading.Event()
    assert not aside.is_at_work

    def work() -> int:
        assert may_end.wait(LIMIT_SECONDS)
        return 4

    aside.begin(work)
    assert aside.is_at_work
    assert aside.take() is None
    assert aside.is_at_work
    may_end.set()
    assert done(aside) == Done(found=4)
    assert not aside.is_at_work
    assert aside.take() is None
    aside.begin(lambda: 5)
    assert done(aside).found == 5


def test_a_failure_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    aside = Aside[int]("sum")

    def work() -> int:
        raise OSError("the disk is full")

    aside.begin(work)
    assert done(aside) == Done(found=None, failure="the disk is full")
    assert not aside.is_at_work
    assert "sum failed" in caplog.text
    assert "the disk is full" in caplog.text
