"""The request hooks of workers with many requests in progress on one thread: gunicorn's gevent worker."""

from __future__ import annotations

from time import monotonic
from typing import Any

from ...errors import ErrorReporter
from ...shm.layout import PATH_REF
from .exceptions import is_connection_close, is_cut_off
from .headers import with_stream_length
from .in_flight import OVERFLOW_AT
from .labels import Resolve
from .recorder import Recorder
from .requests import Requests
from .rows import NO_ROWS, Rows
from .sync_hooks import Hooks, current_exception, make_slow_path


def many_at_a_time(
    recorder: Recorder, resolve: Resolve | None, errors: ErrorReporter, queue_header: str | None = None
) -> Hooks:
    """Return the hooks of a worker whose event loop has many requests in progress.

    All of them are on one thread, and nothing here waits but the user's code that names the endpoint. So no lock is
    needed.

    The lookup of the row stands here and in ``request_hooks``, written out: a call for it costs more than it does.
    """
    requests = Requests(recorder, resolve, errors, "post_request")
    in_flight, store, queued = requests.in_flight, requests.store, requests.naming.queued
    paths, endpoints = requests.cache.paths, requests.cache.endpoints
    slow_path = make_slow_path(recorder, requests.naming)
    words, free = recorder.slot.words, in_flight.free
    running: dict[int, tuple[float, Rows, int]] = {}

    def follow() -> None:
        nonlocal in_flight, store, words, free
        in_flight, store = requests.in_flight, requests.store
        words, free = recorder.slot.words, in_flight.free

    recorder.followers.append(follow)

    def pre_request(worker: Any, req: Any) -> None:
        started = monotonic()
        try:
            try:
                rows, known = paths[req.path][req.method]
            except KeyError:
                rows, known = NO_ROWS, 0.0
            if known and free:
                at = free.pop()
                words[at + PATH_REF] = known
                words[at] = started
            else:
                at = in_flight.add(req.method, req.path, known, started)
            running[id(req)] = started, rows, at
        except Exception:  # noqa: BLE001 - the request must be served
            errors.report("pre_request")

    def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
        found = running.pop(id(req), None)
        if found is None:
            return  # pre_request failed, and reported it
        started, rows, at = found
        exc = current_exception()
        if exc is not None and is_cut_off(exc, worker):
            return  # the worker exits and sends no response: the request stays in the in-flight table
        try:
            label = None
            if resolve is not None:
                label = resolve(environ)  # may wait, and let other requests end meanwhile
                if label:
                    rows = endpoints.get((req.method, label), NO_ROWS)
            duration = monotonic() - started
            row = None
            if (
                (exc is None or is_connection_close(exc))
                and "CONTENT_LENGTH" not in environ
                and "HTTP_TRANSFER_ENCODING" not in environ
            ):
                sent = resp.sent
                if 0 < sent <= 1024:
                    try:  # noqa: SIM105 - contextlib.suppress is not free
                        row = rows.get(resp.status_code)
                    except AttributeError:  # start_response was never called
                        pass
            if row is None:
                row, sent = slow_path(req, environ, resp, exc, label, rows, at)
                if row is None:
                    return
            if queue_header in environ:
                queued(environ[queue_header], duration)
            store(row, at, duration, sent)
        except Exception:  # noqa: BLE001 - the next request must be served
            errors.report("post_request")
        finally:
            if at == OVERFLOW_AT:
                in_flight.untracked.remove(started)
            else:
                words[at] = 0.0
                free.append(at)

    return pre_request, post_request


def with_streams(hooks: Hooks, errors: ErrorReporter) -> Hooks:
    """Return the same hooks for a worker that also speaks HTTP/2, where a body may come without a Content-Length."""
    pre_request, post_one = hooks

    def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
        try:
            environ = with_stream_length(req, environ)
        except Exception:  # noqa: BLE001 - only the size is lost
            errors.report("post_request")
        post_one(worker, req, environ, resp)

    return pre_request, post_request
