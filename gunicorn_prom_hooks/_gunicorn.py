"""gunicorn's worker classes, told by module and name: telling them imports none of them, nor what they import."""

from __future__ import annotations

import re
import time
from typing import Any, Final

from gunicorn import __version__

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


# The master: gunicorn's arbiter, and the worker objects that the arbiter keeps.
# Seen in gunicorn 23 to 27. tests/unit/test_gunicorn_interface_master.py compares each item with the installed version.

GUNICORN_VERSION: Final[str] = __version__
CHILD_EXIT_IN_SIGNAL_HANDLER: Final = int(GUNICORN_VERSION.split(".")[0]) < 24
"""Whether ``child_exit`` runs in the SIGCHLD handler. The interrupted code may hold any lock then."""

ARBITER_ATTRIBUTES: Final = ("WORKERS", "LISTENERS", "num_workers", "timeout", "cfg", "log", "app")
"""What is read of the arbiter. ``WORKERS`` is a dict of workers by pid. ``app`` has ``reload``."""
WORKER_ATTRIBUTES: Final = ("age", "pid", "aborted", "tmp", "cfg")
"""What the master reads of a worker object.

``age`` is its serial number, from 1. ``pid`` is a string until the fork has returned. ``aborted`` is set when the
arbiter sends SIGABRT after a timeout.
"""

OBSERVED_MESSAGES: Final = ("Worker (pid:", "Handling signal:", "Unhandled exception in")
"""The beginnings of all log messages that ``EXIT_MESSAGE`` and ``SHUTDOWN_MESSAGES`` match."""
EXIT_MESSAGE: Final = re.compile(
    r"Worker \(pid:(\d+)\) (?:was sent (?:(SIG\w+|signal \d+)|code (\d+))!|exited with code (\d+))"
)
"""Logged in ``Arbiter.reap_workers`` before ``child_exit``, for every exit but one with code 0.

The groups are the pid, the name of a signal, a wait status, an exit code. The wait status is gunicorn 23's: it has
``code`` where a signal dumped core or has no name. Before gunicorn 25 other children of the master are logged, too.
"""
SHUTDOWN_MESSAGES: Final = (
    "Handling signal: term",
    "Handling signal: int",
    "Handling signal: quit",
    "Unhandled exception in",
)
"""The beginnings of what ``Arbiter.run`` logs before the server shuts down."""
BOOT_EXIT_CODES: Final = (3, 4)
"""``Arbiter.WORKER_BOOT_ERROR`` and ``APP_LOAD_ERROR``. The server shuts down after a worker exit with one of these."""
TIMEOUT_MESSAGE: Final = "WORKER TIMEOUT (pid:"
"""The beginning of what ``Arbiter.murder_workers`` logs before it sends SIGABRT. The pid follows."""
STOP_SIGNALS: Final = ("SIGTERM", "SIGINT", "SIGQUIT")
"""The signals with which the arbiter, or an operator, asks a worker to exit."""


def live_worker_ages(server: Any) -> set[int]:
    """Return the ages of the workers that the arbiter has."""
    return {worker.age for worker in list(server.WORKERS.values())}


def heartbeat_age(worker: Any) -> float | None:
    """Return the seconds since the worker touched its heartbeat file; None before the first touch.

    gunicorn sets the file's times on the monotonic clock. Until the first touch the file has the wall-clock time at
    which it was made. The file is closed by the time the worker's exit is recorded; that is None as well.
    """
    try:
        age = time.monotonic() - worker.tmp.last_update()
    except (OSError, ValueError):
        return None
    return float(age) if age >= 0.0 else None


def worker_capacity(worker: Any) -> float | None:
    """Return the number of requests that a worker can process at a time; None if nothing limits it.

    gunicorn's asgi worker has ``worker_connections`` as well, and does not read it.
    """
    if hasattr(worker, "tpool"):  # gthread
        return float(worker.cfg.threads)
    if is_a(type(worker), SYNC):
        return 1.0
    if is_a(type(worker), GREENLETS):
        return float(worker.worker_connections)
    limit = getattr(getattr(worker, "config", None), "limit_concurrency", None)  # uvicorn's
    return float(limit) if isinstance(limit, int) else None


def dirty_arbiter_pid(server: Any) -> int:
    """Return the pid of the process that runs gunicorn's dirty workers; 0 without them, and before gunicorn 25."""
    return int(getattr(server, "dirty_arbiter_pid", 0))
