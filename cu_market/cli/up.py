"""`cu-market up`: Dagster's UI and daemon on loopback, in the home where the demo ran."""

from __future__ import annotations

import errno
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from cu_market.cli.exits import CommandError
from cu_market.cli.homes import find_home, find_workspace, locked
from cu_market.cli.options import Home, Json
from cu_market.cli.output import make_error_console, write_json
from cu_market.cli.processes import Child, children

HOST = "127.0.0.1"
START_SECONDS = 90


def up(
    home: Home = None,
    workspace: Annotated[
        str | None,
        typer.Option(
            "--workspace", "-w", help="Left out: ./workspace.yaml, else the one in the home."
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", "-p", min=1, max=65535)] = 3000,
    as_json: Json = False,
) -> None:
    """Open Dagster's UI and daemon on 127.0.0.1, in the home where the demo ran.

    Runs until ^C. With --json it prints the address and the home first.
    """
    found = find_home(home)
    bring_up(found, find_workspace(workspace, found), port, as_json=as_json)


def bring_up(home: Path, workspace: Path, port: int, *, as_json: bool) -> None:
    """Runs webserver and daemon until ^C, a request to end, or until one of them ends.

    Raises:
        CommandError: the port is taken, another cu-market has the home, or a child has ended.
    """
    check_port(port)
    url = f"http://{HOST}:{port}"
    console = make_error_console()
    webserver = ("dagster-webserver", ["-h", HOST, "-p", str(port), "-w", str(workspace)])
    daemon = ("dagster-daemon", ["run", "-w", str(workspace)])
    with _stop_event() as stop, locked(home), children(webserver, daemon, home=home) as running:
        if as_json:
            write_json({"url": url, "home": str(home)})
        console.print(f"Starting Dagster in {home} ...")
        if not _wait_for_answer(url, running, stop):
            return
        console.print(f"Dagster's UI: {url}   (logs in {home / 'logs'}; ^C ends it)")
        while not stop.wait(0.5):
            for child in running:
                child.check()


def check_port(port: int) -> None:
    """Raises CommandError if the port cannot be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            why = "in use" if error.errno == errno.EADDRINUSE else str(error.strerror)
            raise CommandError(
                f"port {port} on {HOST} is {why}: end what listens there, or name another with "
                "--port"
            ) from error


def _wait_for_answer(url: str, running: list[Child], stop: threading.Event) -> bool:
    """Returns once the webserver answers; False when it was asked to end meanwhile."""
    for _ in range(START_SECONDS * 2):
        for child in running:
            child.check()
        try:
            with urllib.request.urlopen(f"{url}/server_info", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            if stop.wait(0.5):
                return False
    raise CommandError(f"{url} did not answer within {START_SECONDS} s; see {running[0].log_path}")


@contextmanager
def _stop_event() -> Iterator[threading.Event]:
    """Yields an event that ^C and SIGTERM set; restores the handlers afterwards."""
    stop = threading.Event()

    def handle(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
