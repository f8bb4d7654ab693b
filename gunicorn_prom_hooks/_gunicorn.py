"""What is read of gunicorn's private interface, and of the servers that its worker classes run, by version.

gunicorn 21.2 to 27 are supported. Where nothing else is said, a name was seen in all of them. A new release is checked
here and by ``tests/unit/test_gunicorn_interface.py``. Importing this module imports no worker class.
"""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, NamedTuple

from gunicorn import __version__

try:
    from gunicorn.http.errors import ConfigurationProblem

    SERVER_FAULTS: tuple[type[BaseException], ...] = (ConfigurationProblem,)
except ImportError:  # before gunicorn 22
    SERVER_FAULTS = ()

try:
    from gunicorn.http2.errors import HTTP2ConnectionError, HTTP2ProtocolError, HTTP2StreamError

    HTTP2_CONNECTION_GONE: tuple[type[BaseException], ...] = (HTTP2ConnectionError,)
    HTTP2_GONE: tuple[type[BaseException], ...] = (HTTP2ConnectionError, HTTP2ProtocolError, HTTP2StreamError)
except ImportError:  # before gunicorn 25
    HTTP2_CONNECTION_GONE = HTTP2_GONE = ()

GUNICORN_VERSION: Final[str] = __version__
_MAJOR: Final = int(GUNICORN_VERSION.split(".")[0])
SENDS_TO_NOBODY: Final = _MAJOR < 27
"""Whether the asgi worker's ``send`` may drop a message to a client that has left, without an exception."""

# Worker classes, by module and name: comparing these imports neither the classes nor what they import.

WorkerClass = tuple[str, str]
"""Module and name."""

SYNC: Final[WorkerClass] = ("gunicorn.workers.sync", "SyncWorker")
GTHREAD: Final[WorkerClass] = ("gunicorn.workers.gthread", "ThreadWorker")
GREENLETS: Final[WorkerClass] = ("gunicorn.workers.base_async", "AsyncWorker")
"""Base of gunicorn's gevent and gevent_pywsgi workers, and of its eventlet worker, which gunicorn 26 has removed."""
GEVENT: Final[WorkerClass] = ("gunicorn.workers.ggevent", "GeventWorker")
"""Base of the gevent_pywsgi worker as well."""
TORNADO: Final[WorkerClass] = ("gunicorn.workers.gtornado", "TornadoWorker")
ASGI: Final[WorkerClass] = ("gunicorn.workers.gasgi", "ASGIWorker")
"""Since gunicorn 25."""
UVICORN: Final[tuple[WorkerClass, ...]] = (
    ("uvicorn_worker._workers", "UvicornWorker"),
    ("uvicorn.workers", "UvicornWorker"),
)


def is_a(worker_class: type, *known: WorkerClass) -> bool:
    """Return whether a class is one of these, or derived from one of them."""
    return any((base.__module__, base.__name__) in known for base in worker_class.__mro__)


# Signal handlers of the workers. No hook is told which signal came, nor which request a signal ended.

ABORT_HANDLER: Final = "handle_abort"
"""SIGABRT. Raises ``SystemExit`` in whatever the worker is processing."""
QUIT_HANDLER: Final = "handle_quit"
"""SIGQUIT and SIGINT. Its parameter ``sig`` is the number. Raises ``SystemExit`` in the sync worker."""
ASGI_QUIT_HANDLER: Final = "handle_quit_signal"
"""SIGQUIT and SIGINT in the asgi worker, without a parameter."""


def handled_signal() -> int:
    """Return the number of the signal whose handler, one of gunicorn's workers', is the caller; 0 if none is."""
    caller: FrameType | None = sys._getframe()  # noqa: SLF001 - no hook is told the signal
    while caller is not None:
        if caller.f_code.co_name == QUIT_HANDLER:
            return int(caller.f_locals.get("sig", 0))
        if caller.f_code.co_name == ASGI_QUIT_HANDLER:
            return int(signal.SIGQUIT)  # the one that the master sends; SIGINT has the same handler
        caller = caller.f_back
    return 0


# Names of modules in tracebacks.

WORKERS_PACKAGE: Final = "gunicorn.workers."
"""Worker classes. The application's body is iterated in their frames."""
PYWSGI: Final = "gevent.pywsgi"
"""The server of the gevent_pywsgi worker."""
UWSGI_ERRORS: Final = "gunicorn.uwsgi.errors"
"""Exceptions for malformed packets of uWSGI's protocol."""

# Variables of the ``send`` of an HTTP/1 request in the asgi worker. An unknown name is taken as "not known".

SEND_LENGTH: Final = "response_length"
SEND_SENT: Final = "response_sent"
SEND_STARTED: Final = "response_started"


def body_size(stream: Any) -> int:
    """Return the bytes of the request body that an HTTP/2 stream has received.

    Until gunicorn 26 the stream does not count them, but keeps the body.
    """
    size = getattr(stream, "body_size", None)
    if size is None:
        size = stream.request_body.getbuffer().nbytes if hasattr(stream, "request_body") else 0
    return int(size)


def departure(receive: Any, send: Any) -> Callable[[], bool] | None:
    """Return a function that tells whether the client of an unfinished ASGI response has left; None where none can.

    Until gunicorn 26 the asgi worker drops what is sent to such a client, without an exception: in gunicorn 25.0 for
    HTTP/1, from then on for HTTP/2 streams. Its functions close over the connection and the stream; those of gunicorn
    25.0 for HTTP/2 close over neither.
    """
    if not SENDS_TO_NOBODY:
        return None
    variables: dict[str, Any] = {}
    for function in (receive, send):
        code = getattr(function, "__code__", None)
        if code is not None:
            variables.update(zip(code.co_freevars, function.__closure__ or (), strict=True))
    connection, stream = variables.get("self"), variables.get("stream")
    if connection is None and stream is None:
        return None

    def has_left() -> bool:
        if connection is not None and getattr(connection.cell_contents, "_closed", False):
            return True
        state = getattr(stream.cell_contents, "state", None) if stream is not None else None
        return getattr(state, "name", "") == "CLOSED"

    return has_left


HTTPTOOLS_MODULE: Final = "uvicorn.protocols.http.httptools_impl"
HTTPTOOLS_ATTRIBUTES: Final = ("chunked_encoding", "expected_content_length")
"""Attributes of its ``RequestResponseCycle`` that ``asgi.disconnects`` reads. It needs httptools to be imported."""
UVICORN_LOGGER: Final = "uvicorn.error"
UVICORN_REFUSAL: Final = "Invalid HTTP request received."
"""The message that uvicorn logs for a request that it answers with 400 because it cannot parse it."""
UVICORN_LIMIT: Final = "Exceeded concurrency limit."
"""The message that uvicorn logs for a request that it answers with 503 because of its setting limit_concurrency."""


class Attribute(NamedTuple):
    """An attribute that is read, or replaced on one object.

    Attributes:
        module: of the class.
        owner: name of the class.
        name: of the attribute.
        used_by: module of the package, below ``worker``.
        versions: in which it was seen.
    """

    module: str
    owner: str
    name: str
    used_by: str
    versions: str


def attributes() -> tuple[Attribute, ...]:
    """Return the attributes that the worker's side reads. It names them itself: a lookup here would cost each request.

    Made when it is called, by the tests: no process of a server keeps the table.
    """
    base, http2, protocol = "gunicorn.workers.base", "gunicorn.http2.", "gunicorn.asgi.protocol"
    cycle = "uvicorn.protocols.http.h11_impl"
    every, newer, uvicorn = "gunicorn 21.2-27", "gunicorn 25-27", "uvicorn 0.32-0.54"
    tables = (
        (base, "Worker", "worker", every, "alive nr max_requests reloader notify wsgi cfg"),
        (base, "Worker", "recording.exceptions", every, "handle_abort handle_quit handle_error tmp"),
        ("gunicorn.workers.workertmp", "WorkerTmp", "recording.exceptions", every, "last_update"),
        ("gunicorn.http.message", "Request", "recording.sync_hooks", every, "method path"),
        ("gunicorn.http.wsgi", "Response", "recording.sync_hooks", every, "sent status_code response_length"),
        ("gunicorn.http.wsgi", "Response", "recording.sync_hooks", every, "headers_sent sock"),
        (http2 + "request", "HTTP2Request", "recording.exceptions", newer, "method path stream"),
        (http2 + "stream", "HTTP2Stream", "recording.headers", "gunicorn 27", "body_size"),
        (http2 + "response", "HTTP2Response", "recording.sync_hooks", newer, "h2_conn"),
        (http2 + "connection", "HTTP2ServerConnection", "recording.exceptions", newer, "is_closed"),
        ("gunicorn.workers.ggevent", "GeventWorker", "instrument", every, "server_class"),
        ("gunicorn.workers.gtornado", "TornadoWorker", "wsgi.tornado", every, "server sockets"),
        ("gunicorn.workers.gasgi", "ASGIWorker", "asgi.middleware", newer, "loop asgi handle_quit_signal"),
        (protocol, "ASGIProtocol", "asgi.middleware", newer, "worker app transport _closed _conn_lost_handled"),
        (protocol, "BodyReceiver", "asgi.middleware", newer, "protocol receive _body_wait_expired"),
        ("uvicorn_worker._workers", "UvicornWorker", "asgi.uvicorn", "uvicorn-worker 0.3-0.4", "config"),
        ("uvicorn.config", "Config", "asgi.uvicorn", uvicorn, "load loaded loaded_app"),
        (cycle, "RequestResponseCycle", "asgi.disconnects", uvicorn, "disconnected response_started transport receive"),
        ("tornado.httpserver", "HTTPServer", "wsgi.tornado", "tornado 6.4-6.6", "request_callback"),
        ("tornado.wsgi", "WSGIContainer", "wsgi.tornado", "tornado 6.4-6.6", "executor wsgi_application"),
        ("tornado.web", "RequestHandler", "wsgi.tornado", "tornado 6.4-6.6", "_headers get_status request"),
        ("tornado.web", "Application", "wsgi.tornado", "tornado 6.4-6.6", "log_request"),
    )
    return tuple(
        Attribute(module, owner, name, used_by, versions)
        for module, owner, used_by, versions, names in tables
        for name in names.split()
    )


# The master: gunicorn's arbiter, and the worker objects that the arbiter keeps.
# Seen in gunicorn 21.2 to 27. tests/unit/test_gunicorn_interface_master.py compares each item with what is installed.

CHILD_EXIT_IN_SIGNAL_HANDLER: Final = _MAJOR < 24
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


HEARTBEAT_CLOCK: Final = time.monotonic if _MAJOR >= 22 else time.time
"""The clock of a heartbeat file's times, ``WorkerTmp.last_update``. Before gunicorn 22 these are the kernel's."""


def heartbeat_age(worker: Any) -> float | None:
    """Return the seconds since the worker touched its heartbeat file; None before the first touch.

    gunicorn sets the file's times on the monotonic clock. Until the first touch the file has the wall-clock time at
    which it was made. gunicorn 21.2 reads a time that the kernel sets: there that moment counts as the first touch. The
    file is closed by the time the worker's exit is recorded; that is None as well.
    """
    try:
        age = HEARTBEAT_CLOCK() - worker.tmp.last_update()
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
