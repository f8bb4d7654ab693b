"""The request hooks for each kind of worker: one request at a time, one per thread, many in an event loop."""

from __future__ import annotations

import threading
from threading import get_ident
from time import monotonic
from typing import Any, Final

from ...errors import ErrorReporter
from ...shm.layout import INFLIGHT_ENTRIES, OVERFLOW_ENTRY, PATH_REF
from .endpoints import Resolve
from .headers import length_told
from .in_flight import OVERFLOW_AT, InFlightTable, UntrackedRequests
from .interrupted import is_cut_off
from .recorder import Recorder
from .rows import NO_ROWS, Cache, Rows
from .sync_hooks import Hooks, Load, PostRequest, PreRequest, current_exception, request_hooks

ThreadHooks = tuple[PreRequest, PostRequest, Load]
LAST: Final = INFLIGHT_ENTRIES - 1
"""The entry of the in-flight table that is used first: it lies in one page of memory with the first cells."""


def one_at_a_time(
    recorder: Recorder, resolve: Resolve | None, errors: ErrorReporter, queue_header: str | None = None
) -> Hooks:
    """The hooks of a worker that serves one request after the other on one thread: gunicorn's sync worker."""
    pre_request, post_request, _ = request_hooks(recorder, resolve, errors, Cache(recorder), LAST, queue_header)
    return pre_request, post_request


def one_per_thread(
    recorder: Recorder, resolve: Resolve | None, errors: ErrorReporter, queue_header: str | None = None
) -> Hooks:
    """The hooks of a worker whose threads each serve one request after the other: gunicorn's gthread worker.

    Each thread has hooks of its own, and its own entry in the in-flight table; more threads than the table has
    entries are only counted. The lock is held for the recording alone, not while the user's code names the endpoint.
    """
    cache, labels = Cache(recorder), threading.local()
    acquire, release = recorder.lock.acquire, recorder.lock.release
    threads: dict[int, ThreadHooks] = {}
    untracked = UntrackedRequests(recorder.slot)
    named = None if resolve is None else lambda environ: labels.value

    def begin_thread(ident: int) -> ThreadHooks:
        with recorder.lock:
            number = LAST - len(threads)
            if number >= 0:
                hooks = request_hooks(recorder, named, errors, cache, number, queue_header)
            else:
                hooks = _counted(
                    recorder, untracked, *request_hooks(recorder, named, errors, cache, OVERFLOW_ENTRY, queue_header)
                )
            threads[ident] = hooks
        return hooks

    def pre_request(worker: Any, req: Any) -> None:
        try:
            hooks = threads.get(get_ident()) or begin_thread(get_ident())
            hooks[0](worker, req)
        except Exception:  # noqa: BLE001 - the request must be served
            errors.report("pre_request")

    def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
        if resolve is not None:
            try:
                labels.value = None
                labels.value = resolve(environ)
            except Exception:  # noqa: BLE001 - the path will do
                errors.report("post_request")
        acquire()
        try:
            threads[get_ident()][1](worker, req, environ, resp)
        except Exception:  # noqa: BLE001 - the next request must be served
            errors.report("post_request")
        finally:
            release()

    return pre_request, post_request


def many_at_a_time(
    recorder: Recorder, resolve: Resolve | None, errors: ErrorReporter, queue_header: str | None = None
) -> Hooks:
    """The hooks of a worker whose event loop has many requests in progress: gunicorn's gevent worker.

    All of it is on one thread, and nothing here waits but for the user's code that names the endpoint: so the ends are
    recorded one at a time without a lock, each loaded into the hook of a worker that has but one request.
    """
    label: str | None = None
    named = None if resolve is None else lambda environ: label
    cache = Cache(recorder)
    _, post_one, load = request_hooks(recorder, named, errors, cache, LAST, queue_header)
    words = recorder.slot.words
    in_flight, paths = InFlightTable(recorder.slot), cache.paths
    free = in_flight.free
    running: dict[int, tuple[float, Rows, int]] = {}

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
                at = in_flight.enter(req.method, req.path, known, started)
            running[id(req)] = started, rows, at
        except Exception:  # noqa: BLE001 - the request must be served
            errors.report("pre_request")

    def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
        nonlocal label
        found = running.pop(id(req), None)
        if found is None:
            return  # pre_request failed, and said so
        started, rows, at = found
        exc = current_exception()
        if exc is not None and is_cut_off(exc, worker):
            return  # nothing is answered: the worker dies on it, and the in-flight table goes on saying so
        try:
            # What resolves may wait, and let others end meanwhile: the label is set when it is back, not before.
            label = None if resolve is None else resolve(environ)
            load(started, rows, at)
            post_one(worker, req, environ, resp)
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
    """The same hooks for a worker that speaks HTTP/2 as well, whose requests and bodies are streams of frames."""
    pre_request, post_one = hooks

    def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
        try:
            environ = length_told(req, environ)
        except Exception:  # noqa: BLE001 - its size is all that is lost
            errors.report("post_request")
        post_one(worker, req, environ, resp)

    return pre_request, post_request


def _counted(
    recorder: Recorder, untracked: UntrackedRequests, pre: PreRequest, post: PostRequest, load: Load
) -> ThreadHooks:
    """The same hooks for a thread without an entry of its own: what it is at is counted, but not named.

    All such threads share one entry. So both hooks run with the lock held, and leave nothing of their own in it.
    """
    started: float | None = None

    def pre_request(worker: Any, req: Any) -> None:
        nonlocal started
        with recorder.lock:
            pre(worker, req)
            began = monotonic()
            untracked.add(began)
            started = began

    def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
        nonlocal started
        began, started = started, None
        try:
            post(worker, req, environ, resp)  # the caller holds the lock
        finally:
            if began is not None:
                untracked.remove(began)

    return pre_request, post_request, load
