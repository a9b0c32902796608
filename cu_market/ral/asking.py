"""Asks all providers one question at once, and waits no longer than a deadline.

A thread cannot be ended from outside. One whose provider never answers is left behind, as a
daemon, and while it is still waiting its provider is not asked again: a provider that hangs holds
one thread of a process, however many rounds there are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from cu_market.ral.provider import Provider

Reply = TypeVar("Reply")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[Reply]):
    """What came of asking one provider: a reply, or why there is none.

    Attributes:
        reply: what the question returned, or None.
        silence: why there is no reply, in words; empty where there is one.
    """

    reply: Reply | None = None
    silence: str = ""


_unanswered: set[tuple[str, str]] = set()
_guard = threading.Lock()


def ask_all(
    providers: Sequence[Provider],
    question: Callable[[Provider], Reply],
    *,
    deadline_seconds: float,
) -> Mapping[str, Answer[Reply]]:
    """Returns every provider's answer by its name, within the deadline.

    Args:
        providers: with unique names.
        question: called with each provider, in a thread of its own.
        deadline_seconds: for all together, from now.
    """
    deadline = time.monotonic() + deadline_seconds
    arrived: SimpleQueue[tuple[str, Answer[Reply]]] = SimpleQueue()
    answers: dict[str, Answer[Reply]] = {}
    waiting: set[str] = set()
    for provider in providers:
        silence = _start(provider, question, arrived)
        if silence:
            answers[provider.name] = Answer(silence=silence)
        else:
            waiting.add(provider.name)
    while waiting:
        try:
            name, answer = arrived.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            break
        answers[name] = answer
        waiting.discard(name)
    for name in waiting:
        answers[name] = Answer(silence=f"no answer within {deadline_seconds:g} s")
    return answers


def _start(
    provider: Provider,
    question: Callable[[Provider], Reply],
    arrived: SimpleQueue[tuple[str, Answer[Reply]]],
) -> str:
    """Starts asking a provider; returns why not, or nothing if it is being asked."""
    name = provider.name
    # By kind and name, not by object: a daemon may load its providers anew for every launch.
    key = (f"{type(provider).__module__}.{type(provider).__qualname__}", name)
    with _guard:
        if key in _unanswered:
            return "not asked: it has not answered an earlier question yet"
        _unanswered.add(key)

    def ask() -> None:
        try:
            answer = Answer(reply=question(provider))
        except BaseException as error:  # noqa: BLE001 (foreign code; what it raises is its answer)
            answer = Answer(silence=f"raised {type(error).__name__}: {error}")
        with _guard:
            _unanswered.discard(key)
        arrived.put((name, answer))

    try:
        threading.Thread(target=ask, name=f"cu-market-ask-{name}", daemon=True).start()
    except RuntimeError as error:
        with _guard:
            _unanswered.discard(key)
        return f"not asked: {error}"
    return ""
