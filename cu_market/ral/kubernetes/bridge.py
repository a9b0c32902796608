"""The program that an exec runs in a pod: copies between its standard streams and process 1.

Sent as source text (``python -S -E -c``), so it imports only what starts in milliseconds, and ends
when either side does.
"""

import os
import socket
import sys
import threading
import time

_CONNECT_SECONDS = 15.0


def _copy(read, write) -> None:  # type: ignore[no-untyped-def]
    while data := read():
        view = memoryview(data)
        while view:
            view = view[write(view) :]


def main() -> None:
    """Connects to the abstract socket named by the first argument; copies both ways."""
    peer = socket.socket(socket.AF_UNIX)
    deadline = time.monotonic() + _CONNECT_SECONDS
    while True:
        try:
            peer.connect("\0" + sys.argv[1])
            break
        except OSError:
            if time.monotonic() > deadline:
                sys.exit("process 1 does not listen")
            time.sleep(0.02)  # the container has just started

    def to_pod() -> None:
        _copy(lambda: os.read(0, 262144), peer.send)
        os._exit(0)  # the other thread still waits for the pod

    threading.Thread(target=to_pod, daemon=True).start()
    _copy(lambda: peer.recv(262144), lambda data: os.write(1, data))


if __name__ == "__main__":
    main()
