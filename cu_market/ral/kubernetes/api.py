"""One cluster's API, spoken in raw JSON: typed objects cost five times as much to read.

The client library authenticates, refreshes tokens and keeps connections; nothing else of it is
used, so that whatever a newer server says passes through.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cu_market.domain.problem import CUMarketError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

Json = Mapping[str, Any]

_CONNECT_SECONDS = 5.0
_READ_SECONDS = 15.0
WATCH_SECONDS = 30
"""A watch ends after it and begins anew where it was: a frozen server is noticed by then."""

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class ClusterError(CUMarketError, OSError):
    """The API refused, or could not be reached.

    Attributes:
        status: HTTP's, or 0 where there was no answer.
        reason: the API's word: ``Forbidden``, ``AlreadyExists``.
    """

    def __init__(self, message: str, *, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason

    @property
    def is_transient(self) -> bool:
        """Whether the same call may succeed later without anybody's doing."""
        return self.status in (0, 408, 429) or self.status >= 500


class ClusterApi:
    """Calls to one cluster.

    Args:
        context: of the kubeconfig; None: its current one, or the pod's own service account.
        kubeconfig: a path; None: KUBECONFIG or the home directory's.
    """

    def __init__(self, context: str | None = None, kubeconfig: str | None = None) -> None:
        self._context = context
        self._kubeconfig = kubeconfig
        self._client: ApiClient | None = None
        self._lock = threading.Lock()

    @property
    def is_in_cluster(self) -> bool:
        """Whether the pod's own service account is used."""
        return (
            self._context is None
            and self._kubeconfig is None
            and not os.environ.get("KUBECONFIG")
            and os.path.exists(f"{SERVICE_ACCOUNT}/token")
        )

    def client(self) -> ApiClient:
        """Returns the client library's client; credentials are read at the first call.

        Raises:
            ClusterError: no such file or context.
        """
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> ApiClient:
        from kubernetes import client, config

        configuration = client.Configuration()
        try:
            if self.is_in_cluster:
                config.load_incluster_config(client_configuration=configuration)
            else:
                config.load_kube_config(
                    config_file=self._kubeconfig,
                    context=self._context,
                    client_configuration=configuration,
                    persist_config=False,
                )
        except config.ConfigException as error:
            raise ClusterError(f"kubeconfig: {error}", reason="NoCredentials") from error
        configuration.retries = False  # who calls knows better when to try again
        configuration.connection_pool_maxsize = 16
        return client.ApiClient(configuration)

    # -- calls

    def get(self, path: str, **query: str | int) -> Json:
        """Returns an object or a list.

        Raises:
            ClusterError: as every call.
        """
        return self._json("GET", path, query)

    def create(self, path: str, body: Json) -> Json:
        """Creates an object; returns it as the server has it."""
        return self._json("POST", path, {}, body)

    def patch(self, path: str, body: Json) -> Json:
        """Merges a part into an object; returns it as the server has it."""
        return self._json("PATCH", path, {}, body)

    def delete(self, path: str, *, grace_seconds: int) -> bool:
        """Deletes an object; whether there was one."""
        try:
            self._json("DELETE", path, {"gracePeriodSeconds": grace_seconds})
        except ClusterError as error:
            if error.status == 404:
                return False
            raise
        return True

    def watch(self, path: str, **query: str | int) -> Iterator[Json]:
        """Yields watch events until the server ends the watch, at most WATCH_SECONDS.

        Raises:
            ClusterError: also when the server falls silent.
        """
        query = {**query, "watch": "true", "timeoutSeconds": WATCH_SECONDS}
        response = self._call("GET", path, query, read_seconds=WATCH_SECONDS + 5.0)
        rest = b""
        try:
            for chunk in response.stream(65536, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines if line.strip())
        except Exception as error:
            raise _error(error, path) from error
        finally:
            response.close()

    def websocket(self, path: str, query: list[tuple[str, str]]) -> Any:
        """Returns an open WebSocket of the API's channel protocol.

        Raises:
            ClusterError: refused or unreachable.
        """
        from kubernetes.stream import ws_client

        client = self.client()
        headers: dict[str, str] = {}
        try:
            client.update_params_for_auth(headers, [], ["BearerToken"])
            url = ws_client.get_websocket_url(client.configuration.host + path, query)
            return ws_client.create_websocket(client.configuration, url, headers)
        except Exception as error:
            raise _error(error, path) from error

    def _json(
        self, method: str, path: str, query: Mapping[str, str | int], body: Json | None = None
    ) -> Json:
        response = self._call(method, path, query, body)
        try:
            read: Json = json.loads(response.data)
        except Exception as error:
            raise _error(error, path) from error
        return read

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int],
        body: Json | None = None,
        read_seconds: float = _READ_SECONDS,
    ) -> Any:
        client = self.client()
        try:
            return client.call_api(
                path,
                method,
                query_params=list(query.items()),
                header_params={
                    "Accept": "application/json",
                    "Content-Type": _TYPES.get(method, _JSON),
                },
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=(_CONNECT_SECONDS, read_seconds),
            )
        except Exception as error:
            raise _error(error, f"{method} {path}") from error


_JSON = "application/json"
_TYPES = {"PATCH": "application/merge-patch+json"}


def _error(error: Exception, what: str) -> ClusterError:
    """Returns any of the client's exceptions in the API's own words."""
    from kubernetes.client import ApiException

    if isinstance(error, ClusterError):
        return error
    status = getattr(error, "status", None) or getattr(error, "status_code", None) or 0
    if isinstance(error, ApiException) and error.body:
        try:
            said = json.loads(error.body)
        except ValueError:
            said = {}
        message = said.get("message") or error.reason
        return ClusterError(str(message), status=status, reason=str(said.get("reason") or ""))
    return ClusterError(f"{what}: {type(error).__name__}: {error}", status=int(status))
