"""The hot path: what runs before and after every request.

Everything that can be decided before the first request is decided in ``request_hooks``: which kind of worker this is,
what names endpoints, where the cells are. What is left per request are plain stores.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from ...errors import ErrorReporter
from ...shm.layout import EXPECTED_COUNT, PATH_REF
from ...shm.schema import DURATION_BUCKETS, FIRST_BUCKET, REQUEST_SIZE_SUM, RESPONSE_SIZE_SUM, SIZE_BUCKETS
from ...shm.slot import inflight_start, write_out
from ..frameworks import swallowed
from .endpoints import Resolve
from .exceptions import CLIENT_GONE, is_connection_close, real_exception, remember_failing, status_of
from .headers import size_received, size_unsent
from .interrupted import interrupted_by, mark_interrupted
from .labels import Naming
from .recorder import Recorder, Row, method_label
from .rows import NO_ROWS, Cache, Rows, kind_of

PreRequest = Callable[[Any, Any], None]
PostRequest = Callable[[Any, Any, Any, Any], None]
Hooks = tuple[PreRequest, PostRequest]
Load = Callable[[float, Rows, int], None]
"""Makes another request the current one: when it started, its rows, its place in the in-flight table."""

NO_STATUS: Final = 500
"""Where the application never called start_response, and yet nothing was raised; gunicorn 27 then sends no status."""
if sys.version_info >= (3, 11):
    current_exception = sys.exception
else:

    def current_exception() -> BaseException | None:
        """The exception being handled."""
        return sys.exc_info()[1]


def request_hooks(
    recorder: Recorder,
    resolve: Resolve | None,
    errors: ErrorReporter,
    cache: Cache,
    number: int,
    queue_header: str | None = None,
) -> tuple[PreRequest, PostRequest, Load]:
    """pre_request, post_request, and what makes another request the one that post_request ends.

    One long function, and nothing called that need not be: between two requests the processor has forgotten all
    of this, and each function, cell and line of memory that it must fetch again costs more than what it then does.

    Args:
        recorder: where it is recorded.
        resolve: names the endpoint; None: the path does.
        errors: where failures end.
        cache: shared by all hooks of a worker.
        number: of the in-flight entry.
        queue_header: key in the WSGI environ of the header that says since when a request has been waiting.
    """
    slot, words = recorder.slot, recorder.slot.words
    paths, endpoints = cache.paths, cache.endpoints
    at = inflight_start(number)
    naming = Naming(recorder, cache)
    queued = naming.queued
    started = 0.0
    rows = NO_ROWS

    def pre_request(worker: Any, req: Any) -> None:
        nonlocal rows, started
        started = monotonic()
        try:
            try:
                rows, known = paths[req.path][req.method]
            except KeyError:
                rows, known = NO_ROWS, 0.0
            if known:
                words[at + PATH_REF] = known
            else:
                write_out(slot, at, method_label(req.method).encode(), req.path.encode())
            words[at] = started
        except Exception:  # noqa: BLE001 - the request must be served
            errors.report("pre_request")

    def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
        try:
            duration = monotonic() - started
            if resolve is None:
                label, endpoint_rows = None, rows
            else:
                label = resolve(environ)
                endpoint_rows = endpoints.get((req.method, label), NO_ROWS) if label else rows
            exc = current_exception()
            row = None
            if (
                (exc is None or is_connection_close(exc))
                and "CONTENT_LENGTH" not in environ
                and "HTTP_TRANSFER_ENCODING" not in environ
            ):
                sent = resp.sent
                if 0 < sent <= 1024:
                    try:  # noqa: SIM105 - contextlib.suppress is not free
                        row = endpoint_rows.get(resp.status_code)
                    except AttributeError:  # start_response was never called
                        pass
            if row is None:
                row, sent = slow_path(req, environ, resp, exc, label, endpoint_rows)
            if queue_header in environ:
                queued(environ[queue_header], duration)
            first = row.at
            if sent:
                words[first + RESPONSE_SIZE_SUM] = row.sent = row.sent + sent
            words[first] = row.seconds = row.seconds + duration
            if duration <= 0.005:
                cell = first + FIRST_BUCKET
                done = row.done
                row.fast = count = row.fast + 1.0
            else:
                cell = first + FIRST_BUCKET + bisect_left(DURATION_BUCKETS, duration)
                done = -float(cell)
                count = words[cell] + 1.0
            # It is answered; from the second of these stores on it is no longer in progress, and sure to be counted.
            words[at + EXPECTED_COUNT] = count
            words[at] = done
            words[cell] = count
        except Exception:  # noqa: BLE001 - the next request must be served
            words[at] = 0.0
            errors.report("post_request")

    def load(its_start: float, its_rows: Rows, its_place: int) -> None:
        nonlocal started, rows, at
        started, rows, at = its_start, its_rows, its_place

    def slow_path(
        req: Any, environ: Any, resp: Any, exc: BaseException | None, label: str | None, endpoint_rows: Rows
    ) -> tuple[Row, int]:
        """Row and bytes sent of what is not the usual: a small answer, without failure, to a request without a body.

        That one is told apart in ``post_request`` itself, which is the shorter for it: instructions that are not
        there need not be fetched.
        """
        if exc is None or is_connection_close(exc):
            status = getattr(resp, "status_code", None) or NO_STATUS
            if status >= 500:
                naming.failed(req.method, req.path, status, label, swallowed(environ) or f"HTTP {status}")
            sent = resp.sent
            if sent:
                response_size = bisect_left(SIZE_BUCKETS, sent)
            else:
                sent, response_size = size_unsent(req, resp, status)
        else:
            status = record_exception(req, label, resp, exc)
            sent = 0 if resp is None else resp.sent
            response_size = bisect_left(SIZE_BUCKETS, sent)
        received = request_size = 0
        if "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ:
            received, request_size = size_received(environ)
        row = endpoint_rows.get(kind_of(status, request_size, response_size))
        if row is None:
            app_status = getattr(resp, "status_code", None)
            row = naming.row(req.method, req.path, app_status, label, (status, request_size, response_size))
        if received:
            words[row.at + REQUEST_SIZE_SUM] += received
        return row, sent

    def record_exception(req: Any, label: str | None, resp: Any, raised: BaseException) -> int:
        exc = real_exception(raised)
        interrupted = interrupted_by(exc)
        if interrupted:
            mark_interrupted(slot, at)
        status = status_of(exc, resp)
        if status != CLIENT_GONE:
            error_type = interrupted or type(exc).__name__
            labels = naming.failed(req.method, req.path, getattr(resp, "status_code", None), label, error_type)
            remember_failing(recorder, req, labels, raised)
        return status

    return pre_request, post_request, load
