"""A local copy of some of a cluster's objects, kept up to date by a watch."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from cu_market.ral.kubernetes.api import ClusterApi, ClusterError, Json

logger = logging.getLogger(__name__)

Found = TypeVar("Found")

_BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)


class Mirror:
    """Lists once, then watches. Started by its first reader, in a daemon thread.

    Objects that a filter has cut down hold what room and endings are read from, not more: a mirror
    of a large cluster's pods stays small.

    Args:
        api: the cluster's.
        path: of the list: ``/api/v1/nodes``.
        selectors: labelSelector, fieldSelector.
        keep: cuts an object down, or None to keep it whole.
        remembers: whether objects that were deleted are kept until forget is called.
    """

    def __init__(
        self,
        api: ClusterApi,
        path: str,
        selectors: Mapping[str, str] | None = None,
        keep: Callable[[Json], Json] | None = None,
        *,
        remembers: bool = False,
    ) -> None:
        self._api = api
        self._path = path
        self._selectors = dict(selectors or {})
        self._keep = keep or (lambda item: item)
        self._remembers = remembers
        self._objects: dict[str, Json] = {}
        self._deleted: dict[str, Json] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_stopped = False
        self._contact_at: float | None = None
        self.trouble: ClusterError | None = None
        """What the last try met, or None while all is well."""
        self._failures = 0

    def start(self) -> None:
        """Starts the watch unless it runs."""
        with self._changed:
            if self._thread is None and not self._is_stopped:
                self._thread = threading.Thread(
                    target=self._run, name=f"cu-market-watch{self._path}", daemon=True
                )
                self._thread.start()

    def stop(self) -> None:
        """Ends the watch at its next word; waits for nothing."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def items(self, *, wait_seconds: float, stale_seconds: float) -> Sequence[Json]:
        """Returns all objects.

        Args:
            wait_seconds: how long the first answer may take.
            stale_seconds: how old the last contact may be.

        Raises:
            ClusterError: no answer yet, or none for too long; in the cluster's own words.
        """
        self.start()
        with self._changed:
            self._changed.wait_for(lambda: self._contact_at is not None, wait_seconds)
            age = self.silence_seconds()
            if age is None or age > stale_seconds:
                said = self.backing_off() or f"{self._path}: no answer yet"
                raise ClusterError(said, status=self.trouble.status if self.trouble else 0)
            return list(self._objects.values())

    def backing_off(self) -> str:
        """Returns why, and how often, the server is tried again; nothing while all is well."""
        trouble, failures = self.trouble, self._failures
        if trouble is None or not failures:
            return ""
        tries = "1 failure" if failures == 1 else f"{failures} failures"
        return f"backing off {_pause(failures):g} s after {tries}: {self._path}: {trouble}"

    def silence_seconds(self) -> float | None:
        """Returns seconds since the server was last heard, or None before the first time."""
        return None if self._contact_at is None else time.monotonic() - self._contact_at

    def get(self, name: str) -> tuple[Json | None, bool]:
        """Returns an object as last seen, and whether it is gone.

        Args:
            name: ``namespace/name``, or the name where there is no namespace.
        """
        with self._changed:
            if name in self._objects:
                return self._objects[name], False
            return self._deleted.get(name), name in self._deleted

    def wait(self, look: Callable[[], Found | None], seconds: float) -> Found | None:
        """Returns what look finds, called at every change, or None after the time."""
        self.start()
        found: Found | None = None

        def has_found() -> bool:
            nonlocal found
            found = look()
            return found is not None

        with self._changed:
            self._changed.wait_for(has_found, seconds)
        return found

    def forget(self, name: str) -> None:
        """Drops what is remembered of a deleted object."""
        with self._changed:
            self._deleted.pop(name, None)

    # -- the thread

    def _run(self) -> None:
        version = ""
        while not self._is_stopped:
            try:
                if not version:
                    version = self._list()
                version = self._watch(version)
                self._failures = 0  # not before: it may be the watch that is refused
            except ClusterError as error:
                self._failures += 1
                self._note_trouble(error)
                # What was missed meanwhile only a list tells, and a version may be too old (410).
                version = ""
                with self._changed:
                    self._changed.wait_for(lambda: self._is_stopped, _pause(self._failures))
            except Exception:
                logger.exception("watch failed", extra={"action": "watch", "path": self._path})
                version = ""
                time.sleep(_BACKOFF_SECONDS[-1])

    def _list(self) -> str:
        listed = self._api.get(self._path, **self._selectors)
        objects = {_key(item): self._keep(item) for item in listed.get("items") or ()}
        with self._changed:
            for name in set(self._objects) - set(objects):
                self._note_deleted(name, self._objects[name])
            self._objects = objects
            self._heard()
        return str(listed["metadata"]["resourceVersion"])

    def _note_deleted(self, name: str, item: Json) -> None:
        if self._remembers:
            self._deleted[name] = item

    def _watch(self, version: str) -> str:
        events = self._api.watch(
            self._path,
            **self._selectors,
            resourceVersion=version,
            allowWatchBookmarks="true",
        )
        for event in events:
            if self._is_stopped:
                break
            kind, item = event.get("type"), event.get("object") or {}
            if kind == "ERROR":
                raise ClusterError(str(item.get("message")), status=int(item.get("code") or 0))
            version = str(item["metadata"]["resourceVersion"])
            with self._changed:
                if kind in ("ADDED", "MODIFIED"):
                    self._objects[_key(item)] = self._keep(item)
                elif kind == "DELETED":
                    self._objects.pop(_key(item), None)
                    self._note_deleted(_key(item), self._keep(item))
                self._heard()
        with self._changed:
            self._heard()  # the server ended the watch in order
        return version

    def _heard(self) -> None:
        self._contact_at = time.monotonic()
        self.trouble = None
        self._changed.notify_all()

    def _note_trouble(self, error: ClusterError) -> None:
        with self._changed:
            first = self.trouble is None
            self.trouble = error
            self._changed.notify_all()
        if first:
            logger.warning(
                "cluster does not answer",
                extra={"action": "watch", "path": self._path, "error": str(error)},
            )


def _key(item: Json) -> str:
    metadata = item["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


def _pause(failures: int) -> float:
    return _BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS)) - 1]
