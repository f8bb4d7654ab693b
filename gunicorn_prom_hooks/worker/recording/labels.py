"""Labels of requests: the endpoint, from the user, the framework or the path, and the row that labels lead to."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Callable, Mapping
from time import time
from typing import Any, Final

from ...errors import ErrorReporter
from ...paths import normalize_path
from ...settings import Endpoint
from ...shm.schema import FAILED, OTHER, REQUEST_SIZE_SUM, UNMATCHED, WEBSOCKETS
from ..frameworks import FRAMEWORKS, Framework
from ..frameworks.annotations import noted
from .exceptions import CLIENT_GONE
from .headers import queue_seconds
from .recorder import Recorder, Row, method_label
from .rows import Cache, Rows, kind_of

_UNMATCHED: Final = frozenset({404, 405})
"""Statuses of an application that has nothing at a path, or nothing for the method."""
Resolve = Callable[[Mapping[str, Any]], "str | None"]
"""Name the endpoint from the WSGI environ or ASGI scope after the request; None: it is made from the path."""


def resolver(endpoint: Endpoint | None, errors: ErrorReporter) -> Resolve | None:
    """Return the function that names endpoints in this worker; None where only the path can.

    To be called once the application is loaded: only frameworks that it has imported are asked.
    """
    by_framework = _by_frameworks(errors)
    return by_framework if endpoint is None else _by_user(endpoint, by_framework, errors)


def _by_frameworks(errors: ErrorReporter) -> Resolve | None:
    asked: list[Resolve] = []
    for framework in FRAMEWORKS:
        if framework.MODULE in sys.modules:
            try:
                framework.prepare()
            except Exception:  # noqa: BLE001 - a version of the framework that is not supported
                errors.report(_name(framework))
                continue
            if framework.route is not noted:
                asked.append(_guarded(framework, errors))
            elif noted not in asked:
                asked.append(noted)
    if len(asked) < 2:
        return asked[0] if asked else None

    def first_template(given: Mapping[str, Any]) -> str | None:
        unmatched = None
        for resolve in asked:
            value = resolve(given)
            if value is not None:
                if value != UNMATCHED:
                    return value
                unmatched = value
        return unmatched

    return first_template


def _guarded(framework: Framework, errors: ErrorReporter) -> Resolve:
    route, name = framework.route, _name(framework)

    def resolve(given: Mapping[str, Any]) -> str | None:
        try:
            return route(given)
        except Exception:  # noqa: BLE001 - an unknown version of the framework; the path serves as well
            errors.report(name)
            return None

    return resolve


def _name(framework: Framework) -> str:
    return framework.MODULE.partition(".")[0]


def _by_user(endpoint: Endpoint, by_framework: Resolve | None, errors: ErrorReporter) -> Resolve:
    def resolve(given: Mapping[str, Any]) -> str | None:
        if not given:  # gunicorn refused the request before it made one
            return None
        try:
            value = endpoint(given)
            if isinstance(value, str):
                return str.__str__(value)  # no subclass: it becomes a key of dicts
            if value is not None:
                raise TypeError(f"endpoint returned {type(value).__name__}, not str or None")
        except Exception:  # noqa: BLE001 - the user's code may raise anything
            errors.report("endpoint")
        return None if by_framework is None else by_framework(given)

    return resolve


class Naming:
    """Labels and rows of requests that are not found in the cache, for every kind of worker. Off the hot path.

    Args:
        recorder: where requests are recorded.
        cache: in which the next request of the kind finds its row.
    """

    def __init__(self, recorder: Recorder, cache: Cache) -> None:
        self._recorder = recorder
        self._cache = cache

    def endpoint(self, path: str, status: int | None, label: str | None) -> str:
        """Return the label ``endpoint``.

        Args:
            path: of the request.
            status: set by the application, or None. A disconnect during a 404 still counts as unmatched.
            label: the endpoint as the user or the framework names it, or None.
        """
        if label:
            return self._recorder.endpoint(label)
        if status in _UNMATCHED:
            return UNMATCHED
        # A client may leave out the path of an absolute URI. Prometheus takes an empty label for none.
        return self._recorder.endpoint(normalize_path(path) or "/")

    def find_row(
        self,
        rows: Rows,
        method: str,
        path: str,
        status: int | None,
        label: str | None,
        kind: tuple[int, int, int],
        received: int,
        *,
        keep: bool = True,
    ) -> Row:
        """Return the row of a request, made if there is none yet, and add the size of the request's body to it.

        Args:
            rows: of the method and the endpoint or path, by kind.
            method: of the request.
            path: of the request.
            status: as of ``endpoint``.
            label: as of ``endpoint``.
            kind: the status that the client saw, and the size classes of request and response.
            received: bytes of the request's body.
            keep: whether the cache keeps a new row.
        """
        row = rows.get(kind_of(*kind))
        if row is None:
            endpoint = self.endpoint(path, status, label)
            row = self._recorder.row(method_label(method), endpoint, *kind)
            # Requests of scanners are not kept: they would push out those of real clients. Nor are those whose client
            # disconnected: the next one may end with another status of the application.
            if keep and endpoint not in (UNMATCHED, OTHER) and kind[0] != CLIENT_GONE:
                self._cache.keep(method, path, label, kind_of(*kind), row)
        if received:
            self._recorder.slot.words[row.at + REQUEST_SIZE_SUM] += received
        return row

    def failed(self, method: str, path: str, status: int | None, label: str | None, error_type: str) -> tuple[str, str]:
        """Count a failed request. Return the labels method and endpoint under which it was counted."""
        known, endpoint = method_label(method), self.endpoint(path, status, label)
        self._recorder.count(FAILED, known, endpoint, self._recorder.error_type(error_type))
        return known, endpoint

    def open_websocket(self, path: str, label: str | None) -> int:
        """Count an opened websocket. Return the first of its cells, for ``close_websocket``."""
        cell = self._recorder.place(WEBSOCKETS, self.endpoint(path, None, label))
        self._recorder.slot.cells[cell] += 1.0
        return cell

    def close_websocket(self, cell: int) -> None:
        """Count the end of a websocket."""
        self._recorder.slot.cells[cell + 1] += 1.0

    def queued(self, stamp: str, duration: float) -> None:
        """Count the time in queue of a request that took ``duration`` seconds, by the proxy's header."""
        seconds = queue_seconds(stamp, time() - duration)
        if seconds is not None:
            recorder = self._recorder
            words, queue = recorder.slot.words, recorder.queue
            words[queue] += seconds
            words[queue + 1 + bisect_left(recorder.bounds, seconds)] += 1.0
