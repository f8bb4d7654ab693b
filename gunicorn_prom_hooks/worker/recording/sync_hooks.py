"""The request hooks of workers with one request at a time on a thread: the hot path.

Everything that can be decided before the first request is decided in ``request_hooks``: the kind of worker, what names
endpoints, where the cells are. Per request there are only plain lookups, and the stores of ``rows.make_store``.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from ...errors import ErrorReporter
from ...shm.layout import INFLIGHT_ENTRIES, PATH_REF
from ...shm.schema import SIZE_BUCKETS
from ...shm.slot import inflight_start, write_out
from ..frameworks import swallowed
from .exceptions import (
    CLIENT_GONE,
    ignore_failing,
    interrupted_by,
    is_connection_close,
    is_websocket,
    real_exception,
    remember_failing,
    status_of,
)
from .headers import size_received, size_unsent
from .in_flight import mark_interrupted
from .labels import Naming, Resolve
from .recorder import Recorder, Row, method_label
from .requests import NO_STATUS
from .rows import NO_ROWS, Cache, Rows, make_store

PreRequest = Callable[[Any, Any], None]
PostRequest = Callable[[Any, Any, Any, Any], None]
Hooks = tuple[PreRequest, PostRequest]
SlowPath = Callable[[Any, Any, Any, "BaseException | None", "str | None", Rows, int], tuple["Row | None", int]]

MAX_SKIPPED: Final = 65536
"""Requests for excluded paths that are remembered until gunicorn calls post_request, which it does not for all."""
FIRST_ENTRY: Final = INFLIGHT_ENTRIES - 1
"""The entry of the in-flight table that is used first: it lies in one page of memory with the first cells."""
if sys.version_info >= (3, 11):
    current_exception = sys.exception
else:

    def current_exception() -> BaseException | None:
        """Return the exception being handled."""
        return sys.exc_info()[1]


def one_at_a_time(
    recorder: Recorder, resolve: Resolve | None, errors: ErrorReporter, queue_header: str | None = None
) -> Hooks:
    """Return the hooks of a worker that serves one request after the other on one thread: gunicorn's sync worker."""
    return request_hooks(recorder, resolve, errors, Cache(recorder), FIRST_ENTRY, queue_header)


def request_hooks(
    recorder: Recorder,
    resolve: Resolve | None,
    errors: ErrorReporter,
    cache: Cache,
    number: int,
    queue_header: str | None = None,
) -> Hooks:
    """Return pre_request and post_request of one thread.

    One long function with few calls: between two requests the processor's caches have lost all of this. Each function,
    cell and line of memory that is loaded again costs more than what it then does.

    Args:
        recorder: where requests are recorded.
        resolve: names the endpoint; None: the path does.
        errors: where failures are reported.
        cache: shared by all hooks of a worker.
        number: of the in-flight entry.
        queue_header: key in the WSGI environ of the header with the time at which a proxy passed the request on.
    """
    slot, words = recorder.slot, recorder.slot.words
    paths, endpoints = cache.paths, cache.endpoints
    at = inflight_start(number)
    naming = Naming(recorder, cache)
    queued = naming.queued
    store = make_store(slot, recorder.bounds)
    slow_path = make_slow_path(recorder, naming)
    started = 0.0
    rows = NO_ROWS

    def follow() -> None:
        nonlocal slot, words, store
        slot, words = recorder.slot, recorder.slot.words
        store = make_store(slot, recorder.bounds)

    recorder.followers.append(follow)

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
                row, sent = slow_path(req, environ, resp, exc, label, endpoint_rows, at)
                if row is None:
                    words[at] = 0.0
                    return
            if queue_header in environ:
                queued(environ[queue_header], duration)
            store(row, at, duration, sent)
        except Exception:  # noqa: BLE001 - the next request must be served
            words[at] = 0.0
            errors.report("post_request")

    return pre_request, post_request


def without_excluded(hooks: Hooks, recorder: Recorder, errors: ErrorReporter) -> Hooks:
    """Return hooks that leave out the requests for excluded paths: the same ones if there are no such paths."""
    is_excluded = recorder.is_excluded
    if is_excluded is None:
        return hooks
    record_start, record_end = hooks
    skipped: set[int] = set()
    """Ids of the requests that are left out. The path decides once: the user's hooks may change it."""

    def pre_request(worker: Any, req: Any) -> None:
        try:
            excluded = is_excluded(req.path)
            if excluded:
                if len(skipped) >= MAX_SKIPPED:
                    skipped.clear()  # requests that called no post_request
                skipped.add(id(req))
            elif skipped:
                skipped.discard(id(req))
        except Exception:  # noqa: BLE001 - the request must be served
            errors.report("pre_request")
            excluded = False
        if not excluded:
            record_start(worker, req)

    def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
        if not skipped or id(req) not in skipped:
            record_end(worker, req, environ, resp)
            return
        try:
            skipped.discard(id(req))
            ignore_failing(recorder, req, current_exception())
        except Exception:  # noqa: BLE001 - the next request must be served
            errors.report("post_request")

    return pre_request, post_request


def make_slow_path(recorder: Recorder, naming: Naming) -> SlowPath:
    """Return the function that finds row and bytes sent of a request that is off the fast path.

    On the fast path are small responses, without failure, to requests without a body. That is decided in
    ``post_request`` itself, which is shorter without the rest: code that is not there need not be loaded.
    """

    def slow_path(
        req: Any, environ: Any, resp: Any, exc: BaseException | None, label: str | None, rows: Rows, at: int
    ) -> tuple[Row | None, int]:
        app_status = getattr(resp, "status_code", None)
        if exc is None or is_connection_close(exc):
            status = app_status or NO_STATUS
            if status >= 500:
                naming.failed(req.method, req.path, status, label, swallowed(environ) or f"HTTP {status}")
            sent = resp.sent
            if sent:
                response_size = bisect_left(SIZE_BUCKETS, sent)
            else:
                sent, response_size = size_unsent(req, resp, status)
        elif app_status is None and is_websocket(environ, exc):
            naming.close_websocket(naming.open_websocket(req.path, label))
            return None, 0
        else:
            status = record_exception(req, label, resp, exc, at)
            sent = 0 if resp is None else resp.sent
            response_size = bisect_left(SIZE_BUCKETS, sent)
        received, request_size = size_received(environ)
        kind = status, request_size, response_size
        return naming.find_row(rows, req.method, req.path, app_status, label, kind, received), sent

    def record_exception(req: Any, label: str | None, resp: Any, raised: BaseException, at: int) -> int:
        exc = real_exception(raised)
        interrupted = interrupted_by(exc)
        if interrupted:
            mark_interrupted(recorder.slot, at)
        app_status = getattr(resp, "status_code", None)
        seen = (app_status or NO_STATUS) if resp is not None and resp.headers_sent else None
        status = status_of(exc, seen, getattr(resp, "sock", None), getattr(resp, "h2_conn", None))
        if status != CLIENT_GONE:
            error_type = interrupted or type(exc).__name__
            labels = naming.failed(req.method, req.path, app_status, label, error_type)
            remember_failing(recorder, req, labels, raised)
        return status

    return slow_path
