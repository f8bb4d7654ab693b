"""The neutral start and finish of a request, for workers with an event loop.

``gevent.pywsgi``, Tornado and the ASGI servers each tell in their own way what a request is and how it ended. What they
tell becomes the arguments of ``start`` and ``finish``; below those, all servers are the same.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from time import monotonic
from typing import Any, Final, NamedTuple

from ...errors import ErrorReporter
from ...shm.schema import ERROR_HANDLING, SIZE_BUCKETS, UNKNOWN_SIZE
from ..frameworks import swallowed
from .in_flight import OVERFLOW_AT, InFlightTable, mark_interrupted
from .labels import Naming, Resolve
from .recorder import Recorder
from .rows import NO_ROWS, Cache, Rows, make_store

NO_STATUS: Final = 500
"""Status of a request without one: the application never called start_response, and raised nothing.

gunicorn 27 then sends no status.
"""
UNRESOLVED: Final = "not resolved yet"
"""In place of an endpoint that ``finish`` is to resolve."""


class StartedRequest(NamedTuple):
    """A request in progress.

    Attributes:
        method: of the request.
        path: of the request.
        started: when it started, in seconds of the monotonic clock.
        rows: of its method and path.
        at: the start of its in-flight entry, among the doubles of the slot.
    """

    method: str
    path: str
    started: float
    rows: Rows
    at: int


class Requests:
    """The requests of one worker, all of them on the thread of its event loop. No method raises.

    Args:
        recorder: where requests are recorded.
        resolve: names the endpoint, from a WSGI environ or ASGI scope; None: the path does.
        errors: where failures are reported.
        where: the name under which failures are reported.
        handles_errors: whether the server answers exceptions itself, which counts as its error handling.
    """

    def __init__(
        self,
        recorder: Recorder,
        resolve: Resolve | None,
        errors: ErrorReporter,
        where: str,
        *,
        handles_errors: bool = False,
    ) -> None:
        self.recorder = recorder
        self.resolve = resolve
        self.errors = errors
        self.cache = Cache(recorder)
        self.naming = Naming(recorder, self.cache)
        self.in_flight = InFlightTable(recorder.slot)
        self.store = make_store(recorder.slot, recorder.bounds)
        recorder.followers.append(self._follow)
        self._is_excluded = recorder.is_excluded
        self._where = where
        self._handles_errors = handles_errors

    def _follow(self) -> None:
        self.in_flight = InFlightTable(self.recorder.slot)
        self.store = make_store(self.recorder.slot, self.recorder.bounds)

    def start(self, method: str, path: str, started: float) -> StartedRequest | None:
        """Record the start of a request, in seconds of the monotonic clock.

        Return None if that failed, or if the setting ``exclude`` names its path. The request is then not to be
        finished.
        """
        try:
            try:
                rows, known = self.cache.paths[path][method]
            except KeyError:
                if self._is_excluded is not None and self._is_excluded(path):
                    return None
                rows, known = NO_ROWS, 0.0
            at = self.in_flight.add(method, path, known, started)
            # Without rows the request takes no fast path: those free an entry of the table, and this one has none.
            return StartedRequest(method, path, started, NO_ROWS if at == OVERFLOW_AT else rows, at)
        except Exception:  # noqa: BLE001 - the request must be served
            self.errors.report(self._where)
            return None

    def drop(self, request: StartedRequest) -> None:
        """Remove what was started and turned out not to be a request."""
        self.in_flight.remove(request.at, request.started)

    def give_up(self, request: StartedRequest) -> None:
        """Report that how a request ended could not be told, and remove it."""
        self.errors.report(self._where)
        self.drop(request)

    def mark_interrupted(self, request: StartedRequest) -> None:
        """Record that the worker exits because of a signal that came during this request."""
        mark_interrupted(self.recorder.slot, request.at)

    def finish(
        self,
        request: StartedRequest,
        given: Mapping[str, Any],
        status: int,
        sent: int | None,
        *,
        app_status: int | None = None,
        received: tuple[int, int] = (0, 0),
        queue_stamp: str | None = None,
        error_type: str | None = None,
        label: str | None = UNRESOLVED,
        keep: bool = True,
    ) -> None:
        """Record the end of a request.

        Args:
            request: as ``start`` returned it.
            given: WSGI environ or ASGI scope, by now with what the framework has put into it.
            status: the status that the client saw.
            sent: bytes of the response's body; None if unknown.
            app_status: the status that the application set, if it set one.
            received: bytes of the request's body, and its size class.
            queue_stamp: value of the header with the time at which a proxy passed the request on.
            error_type: of the exception that ended it, or None.
            label: the endpoint as the user or the framework names it, if that is known already.
            keep: whether the next request of this kind may take a fast path.
        """
        method, path, started, rows, at = request
        try:
            duration = monotonic() - started
            if label is UNRESOLVED:
                label = None if self.resolve is None else self.resolve(given)
            if label:
                rows = self.cache.endpoints.get((method, label), NO_ROWS)
            if error_type is not None or status >= 500:
                failure = error_type or swallowed(given) or f"HTTP {status:d}"
                labels = self.naming.failed(method, path, app_status, label, failure)
                if error_type is not None and self._handles_errors:
                    self.recorder.count(ERROR_HANDLING, *labels, self.recorder.error_type(error_type))
            response_size = UNKNOWN_SIZE if sent is None else bisect_left(SIZE_BUCKETS, sent)
            kind = status, received[1], response_size
            row = self.naming.find_row(rows, method, path, app_status, label, kind, received[0], keep=keep)
            if queue_stamp is not None:
                self.naming.queued(queue_stamp, duration)
            self.store(row, at, duration, sent or 0)
        except Exception:  # noqa: BLE001 - the next request must be served
            self.errors.report(self._where)
        finally:
            self.in_flight.remove(at, started)
