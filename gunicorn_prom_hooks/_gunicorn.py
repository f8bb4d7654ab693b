"""What is read of gunicorn's private interface, and of the servers that its worker classes run, by version.

gunicorn 23 to 27 are supported. Where nothing else is said, a name was seen in all of them. A new release is checked
here and by ``tests/unit/test_gunicorn_interface.py``. Importing this module imports no worker class.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Final, NamedTuple

try:
    from gunicorn.http2.errors import HTTP2ConnectionError, HTTP2ProtocolError, HTTP2StreamError

    HTTP2_CONNECTION_GONE: tuple[type[BaseException], ...] = (HTTP2ConnectionError,)
    HTTP2_GONE: tuple[type[BaseException], ...] = (HTTP2ConnectionError, HTTP2ProtocolError, HTTP2StreamError)
except ImportError:  # before gunicorn 25
    HTTP2_CONNECTION_GONE = HTTP2_GONE = ()

# Worker classes, by module and name: comparing these imports neither the classes nor what they import.

WorkerClass = tuple[str, str]
"""Module and name."""

SYNC: Final[WorkerClass] = ("gunicorn.workers.sync", "SyncWorker")
GTHREAD: Final[WorkerClass] = ("gunicorn.workers.gthread", "ThreadWorker")
GREENLETS: Final[WorkerClass] = ("gunicorn.workers.base_async", "AsyncWorker")
"""Base of gunicorn's gevent and gevent_pywsgi workers, and of its eventlet worker, which gunicorn 27 no longer has."""
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

# Variables of the ``send`` of an HTTP/1 request in the asgi worker. An unknown name is taken as "not known".

SEND_LENGTH: Final = "response_length"
SEND_SENT: Final = "response_sent"

HTTPTOOLS_MODULE: Final = "uvicorn.protocols.http.httptools_impl"
HTTPTOOLS_ATTRIBUTES: Final = ("chunked_encoding", "expected_content_length")
"""Attributes of its ``RequestResponseCycle`` that ``asgi.disconnects`` reads. It needs httptools to be imported."""
UVICORN_LOGGER: Final = "uvicorn.error"
UVICORN_REFUSAL: Final = "Invalid HTTP request received."
"""The message that uvicorn logs for a request that it answers with 400 because it cannot parse it."""


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
    every, newer, uvicorn = "gunicorn 23-27", "gunicorn 25-27", "uvicorn 0.32-0.54"
    tables = (
        (base, "Worker", "worker", every, "alive nr max_requests reloader notify wsgi cfg"),
        (base, "Worker", "recording.exceptions", every, "handle_abort handle_quit handle_error tmp"),
        ("gunicorn.workers.workertmp", "WorkerTmp", "recording.exceptions", every, "last_update"),
        ("gunicorn.http.message", "Request", "recording.sync_hooks", every, "method path"),
        ("gunicorn.http.wsgi", "Response", "recording.sync_hooks", every, "sent status_code response_length"),
        ("gunicorn.http.wsgi", "Response", "recording.sync_hooks", every, "headers_sent sock"),
        (http2 + "request", "HTTP2Request", "recording.exceptions", newer, "method path stream"),
        (http2 + "stream", "HTTP2Stream", "recording.headers", newer, "body_size"),
        (http2 + "response", "HTTP2Response", "recording.sync_hooks", newer, "h2_conn"),
        (http2 + "connection", "HTTP2ServerConnection", "recording.exceptions", newer, "is_closed"),
        ("gunicorn.workers.ggevent", "GeventWorker", "instrument", every, "server_class"),
        ("gunicorn.workers.gtornado", "TornadoWorker", "wsgi.tornado", every, "server sockets"),
        ("gunicorn.workers.gasgi", "ASGIWorker", "asgi.middleware", newer, "loop asgi handle_quit_signal"),
        (protocol, "ASGIProtocol", "asgi.middleware", newer, "worker app transport _closed _conn_lost_handled"),
        (protocol, "BodyReceiver", "asgi.middleware", newer, "protocol receive _body_wait_expired"),
        ("uvicorn_worker._workers", "UvicornWorker", "asgi.uvicorn", "uvicorn-worker 0.3-0.4", "config"),
        ("uvicorn.config", "Config", "asgi.uvicorn", uvicorn, "load loaded loaded_app"),
        (cycle, "RequestResponseCycle", "asgi.disconnects", uvicorn, "disconnected transport receive"),
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
