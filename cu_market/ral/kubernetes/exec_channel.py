"""Bytes to and from a pod's process 1 through the API server's exec.

The client library's own stream is not used: it leaves data in the TLS buffer (seen in 36.0: 1,999
of 2,000 frames stalled; kubernetes-client/python#2414) and keeps all that it has read.
"""

from __future__ import annotations

import select
from collections import deque
from pathlib import Path
from typing import Any

from cu_market.ral.kubernetes import bridge
from cu_market.ral.kubernetes.api import ClusterApi, ClusterError

_STDIN, _STDOUT, _STDERR, _ERROR = range(4)
_CONNECT_SECONDS = 20.0


class ExecChannel:
    """An open exec of the bridge. For use by one thread.

    Args:
        api: the cluster's.
        namespace, pod, container: where.
        python: the interpreter there.
        name: of process 1's socket.

    Raises:
        ClusterError: refused or unreachable.
    """

    def __init__(
        self, api: ClusterApi, *, namespace: str, pod: str, container: str, python: str, name: str
    ) -> None:
        source = Path(bridge.__file__).read_text(encoding="utf-8")
        command = (python, "-S", "-E", "-c", source, name)
        query = [("command", part) for part in command]
        query += [("container", container), ("stdin", "true"), ("stdout", "true")]
        query += [("stderr", "true")]
        self._websocket: Any = api.websocket(
            f"/api/v1/namespaces/{namespace}/pods/{pod}/exec", query
        )
        self._websocket.settimeout(_CONNECT_SECONDS)
        self._pending: deque[bytes] = deque()
        self.said = ""
        """What came on standard error, and the API's own words on the command's end."""

    def fileno(self) -> int:
        """Returns the socket's descriptor: readable when something has arrived beyond TLS."""
        number: int = self._websocket.sock.fileno()
        return number

    def has_buffered(self) -> bool:
        """Whether TLS has already read what the socket will not show again."""
        pending = getattr(self._websocket.sock, "pending", None)
        return pending is not None and pending() > 0

    def send(self, data: bytes) -> None:
        """Sends bytes to the bridge.

        Raises:
            ClusterError: the connection is gone.
        """
        try:
            self._websocket.send_binary(bytes([_STDIN]) + data)
        except Exception as error:
            raise ClusterError(f"exec: {type(error).__name__}: {error}") from error

    def receive(self) -> bytes:
        """Returns what the bridge has written, empty if this message was about something else.

        Raises:
            ClusterError: the connection or the command has ended.
        """
        from websocket import ABNF

        try:
            code, frame = self._websocket.recv_data_frame(True)
        except Exception as error:
            raise ClusterError(
                f"exec: {type(error).__name__}: {error} {self.said}".strip()
            ) from error
        if code == ABNF.OPCODE_CLOSE:
            raise ClusterError(f"exec ended: {self.said or 'the server closed the stream'}")
        data = bytes(frame.data)
        if code not in (ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT) or len(data) < 2:
            return b""
        if data[0] == _STDOUT:
            return data[1:]
        self.said += data[1:].decode(errors="replace")
        if data[0] == _ERROR:
            raise ClusterError(f"exec ended: {self.said}")
        return b""

    def is_readable(self, seconds: float) -> bool:
        """Whether something arrives within that time."""
        return self.has_buffered() or bool(select.select([self], [], [], seconds)[0])

    def close(self) -> None:
        """Closes the connection at once; the bridge ends with it."""
        self._websocket.shutdown()
