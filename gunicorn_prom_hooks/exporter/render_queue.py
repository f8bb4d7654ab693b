"""Pages are rendered in a thread of their own, one at a time, each for all clients that have asked by then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from ..concurrency import unpatched
from .http import RenderKey, Reply, error_response

LONGEST_PAUSE_SECONDS: Final = 0.25
"""After a rendering that took some time comes a pause as long, up to this: a flood of scrapes gets half a core."""

Waiting = dict[RenderKey, set[Any]]


class RenderQueue:
    """Collects wishes while a rendering is in progress; then all of them are fulfilled by the next one.

    Everything but the rendering itself is called by the exporter's own thread.

    Args:
        render: from wishes to replies; never raises.
        notify: called in the thread of the rendering when it is done.
        failed: where failures end, by name; called while the exception is handled.
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
        self._in_hand: Waiting = {}
        self._rendering = False
        self._done: tuple[Mapping[RenderKey, Reply], float] | None = None
        self._not_before = 0.0

    def submit(self, key: RenderKey, client: Any) -> None:
        """Enters a client."""
        self._waiting.setdefault(key, set()).add(client)

    def cancel(self, key: RenderKey, client: Any) -> None:
        """The client has gone."""
        for waiting in (self._waiting, self._in_hand):
            clients = waiting.get(key)
            if clients is not None:
                clients.discard(client)
                if not clients:
                    del waiting[key]

    def due(self) -> float | None:
        """Monotonic seconds at which the next rendering may begin; None if none is wanted, or one is in progress."""
        return self._not_before if self._waiting and not self._rendering else None

    def start_next(self) -> None:
        """Begins the next rendering if it is time."""
        due = self.due()
        if due is None or due > time.monotonic():
            return
        self._in_hand, self._waiting = self._waiting, {}
        self._rendering = True
        keys = tuple(self._in_hand)
        try:
            unpatched("_thread", "start_new_thread")(self._run, (keys,))
        except Exception:  # noqa: BLE001 - the system has no thread to give: a late answer is better than none
            self._failed("thread")
            self._run(keys)

    def pop_completed(self) -> list[tuple[Any, Reply]]:
        """The clients whose wish has been rendered, once, and the reply of each."""
        if self._done is None:
            return []
        (replies, seconds), self._done = self._done, None
        self._rendering = False
        self._not_before = time.monotonic() + min(seconds, LONGEST_PAUSE_SECONDS)
        in_hand, self._in_hand = self._in_hand, {}
        failed = error_response(HTTPStatus.INTERNAL_SERVER_ERROR)
        return [(client, replies.get(key, failed)) for key, clients in in_hand.items() for client in clients]

    def _run(self, keys: tuple[RenderKey, ...]) -> None:
        start = time.monotonic()
        replies: Mapping[RenderKey, Reply] = {}
        try:
            replies = self._render(keys)
        finally:
            self._done = replies, time.monotonic() - start
            self._notify()
