"""Queue of renderings. They run in a separate thread, one at a time, each for all clients waiting by then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from ..concurrency import start_thread
from .http import RenderKey, Reply, error_response

LONGEST_PAUSE_SECONDS: Final = 0.25
"""Limit of the pause after a rendering, else as long as the rendering: a flood of scrapes gets half a core."""

Waiting = dict[RenderKey, set[Any]]


class RenderQueue:
    """Queue of render keys. Keys submitted during a rendering share the next one.

    All methods are called by the exporter's thread; only ``render`` and ``notify`` run in the rendering thread.

    Args:
        render: returns the reply to each key; never raises.
        notify: called in the rendering thread when the rendering is completed.
        failed: reports a failure by component name; called while the exception is handled.
    """

    def __init__(
        self,
        render: Callable[[Iterable[RenderKey]], Mapping[RenderKey, Reply]],
        notify: Callable[[], None],
        failed: Callable[[str], None],
    ) -> None:
        self._render = render
        self._notify = notify
        self._failed = failed
        self._waiting: Waiting = {}
        self._in_progress: Waiting = {}
        self._rendering = False
        self._completed: tuple[Mapping[RenderKey, Reply], float] | None = None
        self._not_before = 0.0

    def submit(self, key: RenderKey, client: Any) -> None:
        """Add a client that waits for ``key``."""
        self._waiting.setdefault(key, set()).add(client)

    def cancel(self, key: RenderKey, client: Any) -> None:
        """Remove a client whose connection has closed."""
        for waiting in (self._waiting, self._in_progress):
            clients = waiting.get(key)
            if clients is not None:
                clients.discard(client)
                if not clients:
                    del waiting[key]

    def due(self) -> float | None:
        """Return the monotonic seconds of the next rendering; None if no client waits or one is in progress."""
        return self._not_before if self._waiting and not self._rendering else None

    @property
    def is_rendering(self) -> bool:
        """Return whether a rendering is in progress, or completed and not yet delivered."""
        return self._rendering

    def start_next(self) -> None:
        """Start the next rendering if it is due."""
        due = self.due()
        if due is None or due > time.monotonic():
            return
        self._in_progress, self._waiting = self._waiting, {}
        self._rendering = True
        keys = tuple(self._in_progress)
        try:
            start_thread(self._run, keys)
        except Exception:  # noqa: BLE001 - no thread available: a late response is better than none
            self._failed("thread")
            self._run(keys)

    def pop_completed(self) -> list[tuple[Any, Reply]]:
        """Return the clients whose rendering is completed, with the reply of each. Each is returned once."""
        if self._completed is None:
            return []
        (replies, seconds), self._completed = self._completed, None
        self._rendering = False
        self._not_before = time.monotonic() + min(seconds, LONGEST_PAUSE_SECONDS)
        in_progress, self._in_progress = self._in_progress, {}
        failed = error_response(HTTPStatus.INTERNAL_SERVER_ERROR)
        return [(client, replies.get(key, failed)) for key, clients in in_progress.items() for client in clients]

    def _run(self, keys: tuple[RenderKey, ...]) -> None:
        start = time.monotonic()
        replies: Mapping[RenderKey, Reply] = {}
        try:
            replies = self._render(keys)
        finally:
            self._completed = replies, time.monotonic() - start
            self._notify()
