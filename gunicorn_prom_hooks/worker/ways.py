"""How each worker class has its requests recorded: by the request hooks, or where the application is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from gunicorn.workers.base_async import AsyncWorker
from gunicorn.workers.gthread import ThreadWorker
from gunicorn.workers.sync import SyncWorker

from ..guard import Guard
from . import asgi, tornado, uvicorn, wsgi
from .asgi_requests import AsgiRequests
from .endpoints import Resolve
from .kinds import many_at_a_time, one_at_a_time, one_per_thread, with_streams
from .queueing import environ_key
from .recorder import Recorder
from .requests import Hooks

NATIVE_ASGI: Final = ("gunicorn.workers.gasgi", "ASGIWorker")
UVICORN: Final = frozenset({("uvicorn_worker._workers", "UvicornWorker"), ("uvicorn.workers", "UvicornWorker")})
TORNADO: Final = ("gunicorn.workers.gtornado", "TornadoWorker")


def record(
    worker: Any,
    recorder: Recorder,
    find_resolve: Callable[[], Resolve | None],
    guard: Guard,
    queue_header: str | None,
) -> Hooks | None:
    """Has the requests of this worker recorded, once its application is loaded.

    Args:
        worker: gunicorn's.
        recorder: where they are recorded.
        find_resolve: finds what names endpoints, among what is loaded when it is called; to be called once.
        guard: where failures end.
        queue_header: the header that says since when a request has been waiting.

    Returns:
        The request hooks; None where the application is wrapped on its way to the server, or where the class is none
        that we know: its requests are not counted then.
    """
    bases = {(base.__module__, base.__name__) for base in type(worker).__mro__}
    key = environ_key(queue_header) if queue_header else None
    name = queue_header.lower().encode() if queue_header else None
    if not UVICORN.isdisjoint(bases):
        uvicorn.record(worker, recorder, guard, lambda: AsgiRequests(recorder, find_resolve(), guard, name))
        return None
    resolve = find_resolve()
    if isinstance(worker, SyncWorker):
        return one_at_a_time(recorder, resolve, guard, key)
    if isinstance(worker, ThreadWorker):
        return _streams_too(worker, one_per_thread(recorder, resolve, guard, key), guard)
    if isinstance(worker, AsyncWorker) and getattr(worker, "server_class", None) is None:
        return _streams_too(worker, many_at_a_time(recorder, resolve, guard, key), guard)
    if isinstance(worker, AsyncWorker):
        wsgi.record(worker, many_at_a_time(recorder, resolve, guard, key))
    elif TORNADO in bases:
        tornado.record(
            worker, AsgiRequests(recorder, resolve, guard, name), many_at_a_time(recorder, resolve, guard, key)
        )
    elif NATIVE_ASGI in bases:
        asgi.record(worker, AsgiRequests(recorder, resolve, guard, name))
    return None


def _streams_too(worker: Any, hooks: Hooks, guard: Guard) -> Hooks:
    return with_streams(hooks, guard) if "h2" in getattr(worker.cfg, "http_protocols", ()) else hooks
