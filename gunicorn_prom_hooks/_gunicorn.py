"""gunicorn's worker classes, told by module and name: telling them imports none of them, nor what they import."""

from __future__ import annotations

from typing import Final

WorkerClass = tuple[str, str]
"""Module and name."""

SYNC: Final[WorkerClass] = ("gunicorn.workers.sync", "SyncWorker")
GTHREAD: Final[WorkerClass] = ("gunicorn.workers.gthread", "ThreadWorker")
GREENLETS: Final[WorkerClass] = ("gunicorn.workers.base_async", "AsyncWorker")
"""Base of gunicorn's gevent, gevent_pywsgi and eventlet workers."""
TORNADO: Final[WorkerClass] = ("gunicorn.workers.gtornado", "TornadoWorker")
ASGI: Final[WorkerClass] = ("gunicorn.workers.gasgi", "ASGIWorker")
UVICORN: Final[tuple[WorkerClass, ...]] = (
    ("uvicorn_worker._workers", "UvicornWorker"),
    ("uvicorn.workers", "UvicornWorker"),
)


def is_a(worker_class: type, *known: WorkerClass) -> bool:
    """Return whether a class is one of these, or derived from one of them."""
    return any((base.__module__, base.__name__) in known for base in worker_class.__mro__)
