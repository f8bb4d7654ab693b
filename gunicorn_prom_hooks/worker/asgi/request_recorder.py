"""Where the requests of an ASGI application are recorded: from the scope and what passed, to the slot."""

from __future__ import annotations

from asyncio import CancelledError
from bisect import bisect_left
from collections.abc import Mapping
from time import monotonic
from typing import Any, Final

from ...errors import ErrorReporter
from ...shm.layout import EXPECTED_COUNT
from ...shm.schema import (
    DURATION_BUCKETS,
    ERROR_HANDLING,
    FIRST_BUCKET,
    REQUEST_SIZE_SUM,
    RESPONSE_SIZE_SUM,
    SIZE_BUCKETS,
    UNKNOWN_SIZE,
)
from ..frameworks import swallowed
from ..recording.endpoints import Resolve
from ..recording.exceptions import CLIENT_GONE
from ..recording.headers import size_told
from ..recording.in_flight import OVERFLOW_AT, InFlightTable
from ..recording.labels import Naming
from ..recording.recorder import Recorder, Row
from ..recording.rows import NO_ROWS, Cache, Rows, kind_of
from ..recording.sync_hooks import NO_STATUS
from .disconnects import error_type_of

Begun = tuple[Rows, int]
"""Of a request in progress: the rows of its method and path, and its place in the in-flight table."""

_BODY_HEADERS: Final = frozenset({b"content-length", b"transfer-encoding"})
_ENDS: Final = (SystemExit, KeyboardInterrupt, GeneratorExit, CancelledError)
_BODILESS: Final = frozenset({204, 304})
FAST: Final = DURATION_BUCKETS[0]
"""Seconds; most requests take no longer."""
SMALL: Final = SIZE_BUCKETS[0]
"""Bytes; most answers are no larger."""
ASK: Final = "not asked yet"
"""In place of an endpoint that nobody has asked for yet."""
INCOMPLETE: Final = "IncompleteResponse"
"""error_type of a response that the application began and did not end, without an exception."""


class AsgiRequests:
    """The write side of one ASGI worker, all of it on the thread of its event loop. No method of it raises.

    Args:
        recorder: where it is recorded.
        resolve: names the endpoint, from the scope; None: the path does.
        errors: where failures end.
        queue_header: the header that says since when a request has been waiting, in small letters.
    """

    def __init__(
        self, recorder: Recorder, resolve: Resolve | None, errors: ErrorReporter, queue_header: bytes | None
    ) -> None:
        self.recorder = recorder
        self.errors = errors
        self.resolve = resolve
        self.queue_header = queue_header
        self.cache = Cache(recorder)
        self.naming = Naming(recorder, self.cache)
        self.in_flight = InFlightTable(recorder.slot)
        self._words = recorder.slot.words
        self.telling = _BODY_HEADERS if queue_header is None else _BODY_HEADERS | {queue_header}
        """Names of the headers that matter here."""

    def begin(self, scope: Mapping[str, Any], started: float) -> Begun | None:
        """A request begins; None if it could not be noted, and is not to be ended either."""
        try:
            method, path = scope.get("method", "GET"), scope["path"]
            try:
                rows, known = self.cache.paths[path][method]
            except KeyError:
                rows, known = NO_ROWS, 0.0
            at = self.in_flight.enter(method, path, known, started)
            # Without rows it is not ended in the short way, which takes every place for one in the table.
            return (NO_ROWS if at == OVERFLOW_AT else rows), at
        except Exception:  # noqa: BLE001 - the request must be served
            self.errors.report("asgi")
            return None

    def drop(self, begun: Begun, started: float) -> None:
        """What has begun at this time of the monotonic clock turned out not to be a request."""
        self.in_flight.leave(begun[1], started)

    def end(
        self,
        scope: Mapping[str, Any],
        begun: Begun,
        started: float,
        seen: int,
        sent: int | None,
        status: int,
        error_type: str | None = None,
        label: str | None = ASK,
    ) -> None:
        """A request has ended.

        Args:
            scope: of the request, by now with what the framework has put into it.
            begun: what ``begin`` gave.
            started: in seconds of the monotonic clock.
            seen: the status that the client saw.
            sent: bytes of the body; None if that is not known.
            status: the application's word; 0 if it gave none.
            error_type: what went wrong.
            label: what the user or the framework calls its endpoint, if that is known already.
        """
        rows, at = begun
        words = self._words
        try:
            duration = monotonic() - started
            if label is ASK:
                label = None if self.resolve is None else self.resolve(scope)
            endpoint_rows = self.cache.endpoints.get((scope.get("method", "GET"), label), NO_ROWS) if label else rows
            if seen in _BODILESS or scope.get("method") == "HEAD":
                sent = 0  # the server sends no body, whatever the application says
            headers = self._headers(scope)
            row = None
            if error_type is None and sent is not None and sent <= SMALL and _BODY_HEADERS.isdisjoint(headers):
                row = endpoint_rows.get(seen)
            if row is None:
                row = self._unusual(scope, headers, endpoint_rows, label, seen, sent, status, error_type)
            if self.queue_header in headers:
                self.naming.queued(headers[self.queue_header], duration)
            first = row.at
            if sent:
                words[first + RESPONSE_SIZE_SUM] = row.sent = row.sent + sent
            words[first] = row.seconds = row.seconds + duration
            if duration <= FAST:
                cell, done = first + FIRST_BUCKET, row.done
                row.fast = count = row.fast + 1.0
            else:
                cell = first + FIRST_BUCKET + bisect_left(DURATION_BUCKETS, duration)
                done = -float(cell)
                count = words[cell] + 1.0
            words[at + EXPECTED_COUNT] = count
            words[at] = done
            words[cell] = count
        except Exception:  # noqa: BLE001 - the next request must be served
            self.errors.report("asgi")
        finally:
            self.in_flight.leave(at, started)

    def broken_off(
        self,
        scope: Mapping[str, Any],
        begun: Begun,
        started: float,
        status: int,
        sent: int,
        left: bool,
        exc: BaseException | None = None,
        *,
        answered: bool = False,
    ) -> None:
        """The application is done with a request, and its response was not complete.

        Args:
            scope: of the request.
            begun: what ``begin`` gave.
            started: in seconds of the monotonic clock.
            status: the application's word; 0 if it gave none.
            sent: bytes of the body, so far.
            left: since the client went away.
            exc: what the application raised.
            answered: whether the server answers even one that ends a task or the worker.
        """
        if left:
            self.end(scope, begun, started, CLIENT_GONE, sent, status)
        elif exc is None:
            self.end(scope, begun, started, status or NO_STATUS, sent, status, INCOMPLETE if status else None)
        elif answered or not isinstance(exc, _ENDS):
            self.end(scope, begun, started, status or NO_STATUS, sent, status, error_type_of(exc))
        # Else nothing is answered: the worker dies on it, and the in-flight table goes on saying so.

    def _headers(self, scope: Mapping[str, Any]) -> dict[bytes, str]:
        """The headers that matter here; none if the application has put something else in their place."""
        try:
            headers = dict(scope["headers"])
            return {name: headers[name].decode("latin-1") for name in self.telling if name in headers}
        except Exception:  # noqa: BLE001 - that is the application's to do
            self.errors.report("asgi")
            return {}

    def _unusual(
        self,
        scope: Mapping[str, Any],
        headers: Mapping[bytes, str],
        endpoint_rows: Rows,
        label: str | None,
        seen: int,
        sent: int | None,
        status: int,
        error_type: str | None,
    ) -> Row:
        """The row of what is not the usual: a small answer, without failure, to a request without a body."""
        method, path = scope.get("method", "GET"), scope["path"]
        if error_type is not None or seen >= 500:
            labels = self.naming.failed(method, path, status, label, error_type or swallowed(scope) or f"HTTP {seen:d}")
            if error_type is not None:
                self.recorder.count(ERROR_HANDLING, *labels, self.recorder.error_type(error_type))
        received = request_size = 0
        if b"content-length" in headers:
            received, request_size = size_told(headers[b"content-length"])
        elif b"transfer-encoding" in headers:
            request_size = UNKNOWN_SIZE
        response_size = UNKNOWN_SIZE if sent is None else bisect_left(SIZE_BUCKETS, sent)
        row = endpoint_rows.get(kind_of(seen, request_size, response_size))
        if row is None:
            # Where no body is sent, whatever the application says, the request is never ended in the short way.
            row = self.naming.row(
                method,
                path,
                status,
                label,
                (seen, request_size, response_size),
                keep=method != "HEAD" and seen not in _BODILESS,
            )
        if received:
            self._words[row.at + REQUEST_SIZE_SUM] += received
        return row
