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
    base, wsgi, hot = "gunicorn.workers.base", "gunicorn.http.wsgi", "recording.sync_hooks"
    every, asgi = "23-27", "25-27"
    tables = (
        (base, "Worker", "worker", every, "alive nr max_requests reloader notify wsgi cfg tmp sockets"),
        (base, "Worker", "recording.exceptions", every, "handle_error handle_abort handle_quit"),
        ("gunicorn.workers.workertmp", "WorkerTmp", "recording.exceptions", every, "last_update"),
        ("gunicorn.http.message", "Request", hot, every, "method path"),
        (wsgi, "Response", hot, every, "sent status_code response_length headers_sent sock"),
        ("gunicorn.http2.stream", "HTTP2Stream", "recording.headers", asgi, "request_body"),
        ("gunicorn.http2.request", "HTTP2Request", "recording.exceptions", asgi, "stream"),
        ("gunicorn.workers.ggevent", "GeventPyWSGIWorker", "wsgi.application", every, "server_class"),
        ("gunicorn.workers.gasgi", "ASGIWorker", "asgi.middleware", asgi, "loop asgi handle_quit_signal"),
        ("gunicorn.asgi.protocol", "ASGIProtocol", "asgi.middleware", asgi, "worker app transport _closed"),
    )
    return tuple(
        Attribute(module, owner, name, used_by, versions)
        for module, owner, used_by, versions, names in tables
        for name in names.split()
    )
