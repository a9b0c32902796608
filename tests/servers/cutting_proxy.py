"""A TCP proxy that cuts a connection at a chosen moment: a request arrives, its answer does not."""

from __future__ import annotations

import contextlib
import socket
import threading


class CuttingProxy:
    """Passes bytes both ways between clients and one server.

    Args:
        host, port: the server's.

    Attributes:
        port: where it listens, on loopback.
        cuts: connections that were cut.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.cuts = 0
        self._trigger: bytes | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, request: bytes) -> None:
        """Cuts the next connection whose client sends this, once the server has answered it."""
        with self._lock:
            self._trigger = request

    def close(self) -> None:
        """Takes no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        is_cut = threading.Event()
        with client, socket.create_connection(self._server) as server:
            answers = threading.Thread(target=self._answer, args=(server, client, is_cut))
            answers.start()
            with contextlib.suppress(OSError):
                while data := client.recv(65536):
                    if self._is_triggered(data):
                        is_cut.set()
                    server.sendall(data)
                    if is_cut.is_set():
                        break
            if not is_cut.is_set():
                with contextlib.suppress(OSError):
                    server.shutdown(socket.SHUT_WR)
            answers.join()

    def _answer(
        self, server: socket.socket, client: socket.socket, is_cut: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if is_cut.is_set():
                    break
                client.sendall(data)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _is_triggered(self, data: bytes) -> bool:
        with self._lock:
            if self._trigger is None or self._trigger not in data:
                return False
            self._trigger = None
            self.cuts += 1
            return True
