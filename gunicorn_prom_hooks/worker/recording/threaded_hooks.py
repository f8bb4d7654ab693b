"""The request hooks of workers whose threads each serve one request after the other: gunicorn's gthread worker."""

from __future__ import annotations

import threading
from threading import get_ident
from time import monotonic
from typing import Any

from ...errors import ErrorReporter
from ...shm.layout import OVERFLOW_ENTRY
from .in_flight import UntrackedRequests
from .labels import Resolve
from .recorder import Recorder
from .rows import Cache
from .sync_hooks import FIRST_ENTRY, Hooks, PostRequest, PreRequest, request_hooks


def one_per_thread(
    recorder: Recorder, resolve: Resolve | None, errors: ErrorReporter, queue_header: str | None = None
) -> Hooks:
    """Return the hooks of a worker with threads.

    Each thread has its own hooks and its own entry in the in-flight table. The requests of more threads than the table
    has entries are only counted. The lock is held while a request is recorded, not while the user's code names the
    endpoint.
    """
    cache, labels = Cache(recorder), threading.local()
    acquire, release = recorder.lock.acquire, recorder.lock.release
    threads: dict[int, Hooks] = {}
    untracked = UntrackedRequests(recorder.slot)
    named = None if resolve is None else lambda environ: labels.value

    def follow() -> None:
        nonlocal acquire, release
        acquire, release = recorder.lock.acquire, recorder.lock.release
        untracked.move_to(recorder.slot)

    recorder.followers.append(follow)

    def begin_thread(ident: int) -> Hooks:
        with recorder.lock:
            number = FIRST_ENTRY - len(threads)
            if number >= 0:
                hooks = request_hooks(recorder, named, errors, cache, number, queue_header)
            else:
                shared = request_hooks(recorder, named, errors, cache, OVERFLOW_ENTRY, queue_header)
                hooks = _untracked_hooks(recorder, untracked, *shared)
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
            except Exception:  # noqa: BLE001 - the path serves as well
                errors.report("post_request")
        acquire()
        try:
            threads[get_ident()][1](worker, req, environ, resp)
        except Exception:  # noqa: BLE001 - the next request must be served
            errors.report("post_request")
        finally:
            release()

    return pre_request, post_request


def _untracked_hooks(recorder: Recorder, untracked: UntrackedRequests, pre: PreRequest, post: PostRequest) -> Hooks:
    """Return the same hooks for a thread without an entry: its requests are counted while in progress, not named.

    All such threads share one entry. So both hooks run with the lock held, and leave nothing in it.
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

    return pre_request, post_request
