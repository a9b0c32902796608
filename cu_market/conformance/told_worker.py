"""A worker that does as it is told, one word a line, and how to talk to it.

It is started on the provider's CU in place of the market's own worker, by the same contract: its
channel is the socket whose descriptor is in CU_MARKET_CHANNEL_FD.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable
from pathlib import Path

from cu_market.ral.provider import Worker

SECONDS = 180.0
"""For a CU to start, answer or end: a node may have to load an image first."""

PROGRAM = """
import os, socket, subprocess, sys
channel = socket.socket(fileno=int(os.environ["CU_MARKET_CHANNEL_FD"]))
PAUSE = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
FORKS = {
    "child": PAUSE,
    "session": "import os; os.setsid(); exec(%r)" % PAUSE,
    "orphan": "import os; os.fork() and os._exit(0); os.setsid(); exec(%r)" % PAUSE,
}
def place():
    try:
        boot = open("/proc/sys/kernel/random/boot_id").read().strip()
        return boot + "/" + os.readlink("/proc/self/ns/pid")
    except OSError:
        return "unknown"
lines = channel.makefile("rb")
for line in lines:
    word, _, rest = line.decode().strip().partition(" ")
    if word == "say":
        channel.sendall(rest.encode() + b"\\n")
    elif word == "variable":
        channel.sendall(os.environ.get(rest, "").encode() + b"\\n")
    elif word == "where":
        channel.sendall(os.getcwd().encode() + b"\\n")
    elif word == "place":
        channel.sendall(place().encode() + b"\\n")
    elif word == "print":
        print(rest, flush=True)
        channel.sendall(b"printed\\n")
    elif word in FORKS:
        child = subprocess.Popen([sys.executable, "-c", FORKS[word]], stdout=subprocess.PIPE)
        channel.sendall(child.stdout.readline())
    elif word == "copy":
        left = int(rest)
        while left:
            data = lines.read1(min(left, 65536))
            left -= len(data)
            channel.sendall(data)
    elif word == "exit":
        os._exit(int(rest))
"""


def wait_readable(worker: Worker) -> None:
    """Returns when receive() would not block.

    Raises:
        TimeoutError: nothing has arrived.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(worker, selectors.EVENT_READ)
        if not selector.select(timeout=SECONDS):
            raise TimeoutError(f"{worker.holder}: nothing has arrived within {SECONDS:g} s")


def receive_line(worker: Worker) -> str:
    """Returns the line that the worker says next."""
    data = b""
    while not data.endswith(b"\n"):
        wait_readable(worker)
        part = worker.receive()
        if not part:
            raise EOFError(f"{worker.holder} closed its channel after {data!r}")
        data += part
    return data.decode().strip()


def tell(worker: Worker, line: str) -> str:
    """Returns the worker's answer to a line."""
    worker.send(line.encode() + b"\n")
    return receive_line(worker)


def until(reached: Callable[[], bool], what: str) -> None:
    """Returns when it is so; asks ten times a second.

    Raises:
        TimeoutError: it is not.
    """
    deadline = time.monotonic() + SECONDS
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {SECONDS:g} s: {what}")
        time.sleep(0.1)


def own_place() -> str:
    """Returns boot and pid namespace of this process, as the program tells its own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return "this host has no such files"


def is_gone(pid: int) -> bool:
    """Whether a process of this host has ended; a zombie that nobody waits for has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True
