"""How each worker class has its requests recorded: by the request hooks, or where the application is called."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from .._gunicorn import ASGI, GREENLETS, GTHREAD, SYNC, TORNADO, UVICORN, WorkerClass, is_a
from ..errors import ErrorReporter
from .recording.endpoints import Resolve
from .recording.event_loop_hooks import many_at_a_time, one_at_a_time, one_per_thread, with_streams
from .recording.queue_time import environ_key
from .recording.recorder import Recorder, first_content
from .recording.sync_hooks import Hooks

if TYPE_CHECKING:
    from .asgi.request_recorder import AsgiRequests

MODULES: Final[tuple[tuple[tuple[WorkerClass, ...], tuple[str, ...]], ...]] = (
    (UVICORN, ("asgi.uvicorn", "asgi.request_recorder")),
    ((GREENLETS,), ("wsgi.application",)),
    ((TORNADO,), ("wsgi.tornado", "asgi.request_recorder")),
    ((ASGI,), ("asgi.middleware", "asgi.request_recorder")),
)
"""Modules of this package that only some classes need. What these import, asyncio first of all, is not for others."""


def prepare(worker_class: type) -> None:
    """Import what ``record`` needs for this class. Called in the master before a fork, so that no worker has to."""
    first_content()
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
    """Has the requests of this worker recorded, once its application is loaded.

    Args:
        worker: gunicorn's.
        recorder: where they are recorded.
        find_resolve: finds what names endpoints, among what is loaded when it is called; to be called once.
        errors: where failures end.
        queue_header: the header that says since when a request has been waiting.

    Returns:
        The request hooks; None where the application is wrapped on its way to the server, or where the class is none
        that we know: its requests are not counted then.
    """
    cls: type = type(worker)
    key = environ_key(queue_header) if queue_header else None
    name = queue_header.lower().encode() if queue_header else None
    if is_a(cls, *UVICORN):
        from .asgi import uvicorn

        uvicorn.record(worker, recorder, errors, lambda: _asgi_requests(recorder, find_resolve(), errors, name))
        return None
    resolve = find_resolve()
    if is_a(cls, SYNC):
        return one_at_a_time(recorder, resolve, errors, key)
    if is_a(cls, GTHREAD):
        return _streams_too(worker, one_per_thread(recorder, resolve, errors, key), errors)
    if is_a(cls, GREENLETS) and getattr(worker, "server_class", None) is None:
        return _streams_too(worker, many_at_a_time(recorder, resolve, errors, key), errors)
    if is_a(cls, GREENLETS):
        from .wsgi import application

        application.record(worker, many_at_a_time(recorder, resolve, errors, key))
    elif is_a(cls, TORNADO):
        from .wsgi import tornado

        tornado.record(
            worker, _asgi_requests(recorder, resolve, errors, name), many_at_a_time(recorder, resolve, errors, key)
        )
    elif is_a(cls, ASGI):
        from .asgi import middleware

        middleware.record(worker, _asgi_requests(recorder, resolve, errors, name))
    return None


def _asgi_requests(
    recorder: Recorder, resolve: Resolve | None, errors: ErrorReporter, queue_header: bytes | None
) -> AsgiRequests:
    from .asgi.request_recorder import AsgiRequests

    return AsgiRequests(recorder, resolve, errors, queue_header)


def _streams_too(worker: Any, hooks: Hooks, errors: ErrorReporter) -> Hooks:
    return with_streams(hooks, errors) if "h2" in getattr(worker.cfg, "http_protocols", ()) else hooks
