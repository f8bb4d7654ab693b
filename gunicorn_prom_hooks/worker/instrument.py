"""The way in which each worker class has its requests recorded: request hooks, or a wrapped application."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from .._gunicorn import ASGI, GREENLETS, GTHREAD, SYNC, TORNADO, UVICORN, WorkerClass, is_a
from ..errors import ErrorReporter
from .recording.event_loop_hooks import many_at_a_time, with_streams
from .recording.headers import environ_key
from .recording.labels import Resolve
from .recording.recorder import Recorder, first_content
from .recording.requests import Requests
from .recording.sync_hooks import Hooks, one_at_a_time, without_excluded
from .recording.threaded_hooks import one_per_thread

if TYPE_CHECKING:
    from .asgi.request_recorder import AsgiRequests

MODULES: Final[tuple[tuple[tuple[WorkerClass, ...], tuple[str, ...]], ...]] = (
    (UVICORN, ("asgi.uvicorn", "asgi.request_recorder")),
    ((GREENLETS,), ("wsgi.application",)),
    ((TORNADO,), ("wsgi.tornado",)),
    ((ASGI,), ("asgi.middleware", "asgi.request_recorder")),
)
"""Modules of this package that only some classes need. The others are not to import asyncio, for one, because of us."""


def prepare(worker_class: type, bounds: tuple[float, ...]) -> None:
    """Make what ``record`` needs for this class. Called in the master before a fork, so that no worker has to.

    Args:
        worker_class: of the next workers.
        bounds: of their duration buckets.
    """
    first_content(bounds)
    for classes, modules in MODULES:
        if is_a(worker_class, *classes):
            for name in modules:
                import_module(f"{__package__}.{name}")


def record(
    worker: Any,
    recorder: Recorder,
    find_resolve: Callable[[], Resolve | None],
    errors: ErrorReporter,
    queue_header: str | None,
) -> Hooks | None:
    """Have the requests of this worker recorded, once its application is loaded.

    Args:
        worker: gunicorn's.
        recorder: where they are recorded.
        find_resolve: returns what names endpoints, from what is loaded when it is called; to be called once.
        errors: where failures are reported.
        queue_header: name of the header with the time at which a proxy passed the request on.

    Returns:
        The request hooks; None where the application is wrapped, or where the class is unknown: its requests are then
        not counted.
    """
    cls: type = type(worker)
    key = environ_key(queue_header) if queue_header else None
    name = queue_header.lower().encode() if queue_header else None
    if is_a(cls, *UVICORN):
        from .asgi import uvicorn

        uvicorn.record(worker, recorder, errors, lambda: _asgi_requests(recorder, find_resolve(), errors, name))
        return None
    resolve = find_resolve()
    hooks = None
    if is_a(cls, SYNC):
        hooks = one_at_a_time(recorder, resolve, errors, key)
    elif is_a(cls, GTHREAD):
        hooks = _with_http2(worker, one_per_thread(recorder, resolve, errors, key), errors)
    elif is_a(cls, GREENLETS) and getattr(worker, "server_class", None) is None:
        hooks = _with_http2(worker, many_at_a_time(recorder, resolve, errors, key), errors)
    if hooks is not None:
        return without_excluded(hooks, recorder, errors)
    if is_a(cls, GREENLETS):
        from .wsgi import application

        application.record(worker, Requests(recorder, resolve, errors, "wsgi"), key)
    elif is_a(cls, TORNADO):
        from .wsgi import tornado

        tornado.record(worker, Requests(recorder, resolve, errors, "tornado"), queue_header, key)
    elif is_a(cls, ASGI):
        from .asgi import middleware

        middleware.record(worker, _asgi_requests(recorder, resolve, errors, name))
    return None


def _asgi_requests(
    recorder: Recorder, resolve: Resolve | None, errors: ErrorReporter, queue_header: bytes | None
) -> AsgiRequests:
    from .asgi.request_recorder import AsgiRequests

    return AsgiRequests(recorder, resolve, errors, queue_header)


def _with_http2(worker: Any, hooks: Hooks, errors: ErrorReporter) -> Hooks:
    return with_streams(hooks, errors) if "h2" in getattr(worker.cfg, "http_protocols", ()) else hooks
