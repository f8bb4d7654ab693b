"""Exceptions that end requests: their error_type, the status that the client saw, gunicorn's error handling."""

from __future__ import annotations

import errno
import select
import sys
from collections.abc import Mapping
from ssl import SSL_ERROR_EOF, SSLError
from types import FrameType, TracebackType
from typing import Any, Final

from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.http.wsgi import FileWrapper
from gunicorn.workers.base import Worker

from ..._gunicorn import (
    ABORT_HANDLER,
    HEARTBEAT_CLOCK,
    HTTP2_GONE,
    PYWSGI,
    QUIT_HANDLER,
    SERVER_FAULTS,
    UWSGI_ERRORS,
    WORKERS_PACKAGE,
)
from ...concurrency import unpatched
from ...errors import ErrorReporter
from ...shm.schema import ERROR_HANDLING, INVALID, UNMATCHED
from .recorder import Recorder, method_label

CLIENT_GONE: Final = 499
"""Status of a request whose client disconnected before it had the whole response; nginx's number for it."""
TIMEOUT: Final = "timeout"
ABORT: Final = "abort"
SHUTDOWN: Final = "shutdown"
"""error_type of a request that a signal to its worker ended: SIGABRT at gunicorn's timeout, any other SIGABRT, and
SIGINT or SIGQUIT."""

_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ECONNABORTED, errno.ETIMEDOUT})
_TRANSPORTS = frozenset({"socket", "ssl", "gevent", "eventlet", "selectors"})
LEFT_OUT: Final = ("", "")
"""In place of the labels of a request that is left out. Compared by identity."""
_MAX_PENDING = 128
_MAX_CONTEXTS: Final = 20
"""Bound of a chain of exceptions, each raised while the next one was handled."""


def interrupted_by(exc: BaseException | None) -> str:
    """Return which signal to the worker ended the request, as an error_type; empty if none did.

    gunicorn's signal handlers raise ``SystemExit`` in whatever the worker is processing. It may come out as another
    exception, raised while that one was handled.
    """
    for _ in range(_MAX_CONTEXTS):
        if exc is None:
            break
        traceback = exc.__traceback__
        while traceback is not None:
            frame = traceback.tb_frame
            if frame.f_code.co_name in (ABORT_HANDLER, QUIT_HANDLER):
                worker = frame.f_locals.get("self")
                if isinstance(worker, Worker):
                    return SHUTDOWN if frame.f_code.co_name == QUIT_HANDLER else _aborted_by(worker)
            traceback = traceback.tb_next
        exc = exc.__context__
    return ""


def _aborted_by(worker: Worker) -> str:
    """Return whether a SIGABRT was the master's: it sends one when the worker's heartbeat is older than the timeout."""
    timeout = worker.cfg.timeout
    try:
        return TIMEOUT if timeout and HEARTBEAT_CLOCK() - worker.tmp.last_update() > timeout else ABORT
    except (OSError, ValueError):  # the heartbeat's file is closed
        return TIMEOUT


def error_type_of(exc: BaseException) -> str:
    """Return the error_type of a request that ended with this exception."""
    return interrupted_by(exc) or type(exc).__name__


def is_cut_off(exc: BaseException, worker: Any) -> bool:
    """Return whether gunicorn's gevent worker, as it exits, ends this request without a response.

    It does so with ``SystemExit`` out of a signal handler, and with ``GreenletExit`` when ``graceful_timeout`` is over.
    Any other exception is the application's, also in a worker that is exiting.
    """
    if isinstance(exc, Exception) or worker.alive:
        return False
    greenlet = sys.modules.get("greenlet")
    return (greenlet is not None and isinstance(exc, greenlet.GreenletExit)) or interrupted_by(exc) != ""


def real_exception(exc: BaseException) -> BaseException:
    """Return the application's exception.

    Where the response had begun, gunicorn logs the exception and raises ``StopIteration`` in its place.
    """
    if isinstance(exc, StopIteration) and exc.__context__ is not None:
        return exc.__context__
    return exc


def is_connection_close(exc: BaseException) -> bool:
    """Return whether gunicorn raised this itself, after a complete response, to close the connection.

    Its gevent worker raises a bare ``StopIteration`` for the last request of each connection.
    """
    if not isinstance(exc, StopIteration) or exc.__context__ is not None:
        return False
    traceback = exc.__traceback__
    if traceback is not None and traceback.tb_next is None:  # raised in the caller of the hook, as it always is
        return str(traceback.tb_frame.f_globals.get("__name__")).startswith("gunicorn.")
    return _raised_in(traceback) == "gunicorn"


def is_websocket(environ: Mapping[str, Any], exc: BaseException) -> bool:
    """Return whether an application that has spoken websocket on the client's socket ends like this.

    simple-websocket, which Flask-Sock and Flask-SocketIO use, has its callers raise a bare ``StopIteration`` then.
    """
    return (
        type(exc) is StopIteration
        and exc.__context__ is None
        and environ.get("HTTP_UPGRADE", "").lower() == "websocket"
    )


def is_client_disconnect(exc: BaseException, sock: Any = None) -> bool:
    """Return whether the server failed to read from or write to the client, which is gone.

    A database that resets its connection raises the very same ``ConnectionResetError``. So two things must be true:
    the server's own code used the socket, and the kernel says that the client's connection is over.

    Args:
        exc: what ended the request.
        sock: the client's socket, if it is known.
    """
    if isinstance(exc, (NoMoreData, *HTTP2_GONE)):
        return True
    if type(exc) is OSError and exc.errno is None:  # gevent.pywsgi raises this for a request body that is cut short
        frame = _innermost(exc.__traceback__)
        return frame is not None and _module(frame) == PYWSGI
    if not isinstance(exc, OSError) or not (isinstance(exc, SSLError) or exc.errno in _GONE):
        return False
    return _is_servers_own(exc.__traceback__) and (isinstance(exc, SSLError) or _is_over(sock))


def _is_servers_own(traceback: TracebackType | None) -> bool:
    """Return whether the server's code for the client's socket raised this, or nothing but the transport did.

    The application's body is iterated in the frames of gunicorn's workers, and its files are read in ``FileWrapper``:
    what is raised there is the application's, which may have answered with the file of a socket.
    """
    frame = _innermost(traceback)
    if frame is None:
        return True
    name = _module(frame)
    if name == PYWSGI:
        return True
    if not name.startswith("gunicorn.") or name.startswith(WORKERS_PACKAGE):
        return False
    return not isinstance(frame.f_locals.get("self"), FileWrapper)


def _is_over(sock: Any) -> bool:
    """Return whether the kernel has ended the connection of this socket; True where the kernel cannot be asked."""
    try:
        poll = unpatched("select", "poll")()
        poll.register(sock.fileno(), 0)  # what ends a connection is always reported
        return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))
    except (AttributeError, OSError, TypeError, ValueError):
        return True


def _connection_is_gone(exc: BaseException, connection: Any) -> bool:
    """Return whether the client had ended the HTTP/2 connection before this exception kept the response from it.

    gunicorn reads a GOAWAY without noticing that the connection is over: h2 then refuses to send anything more.
    """
    return connection is not None and connection.is_closed and _raised_in(exc.__traceback__) == "h2"


def _raised_in(traceback: TracebackType | None) -> str:
    """Return the top-level package of the innermost frame that is not the transport itself; empty if there is none."""
    frame = _innermost(traceback)
    return "" if frame is None else _module(frame).partition(".")[0]


def _innermost(traceback: TracebackType | None) -> FrameType | None:
    """Return the innermost frame that is not the transport itself."""
    found = None
    while traceback is not None:
        name = _module(traceback.tb_frame)
        if name.partition(".")[0] not in _TRANSPORTS or name == PYWSGI:
            found = traceback.tb_frame
        traceback = traceback.tb_next
    return found


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def status_of(exc: BaseException, seen: int | None, sock: Any = None, connection: Any = None) -> int:
    """Return the status that the client saw of a request that ended with this exception.

    Args:
        exc: the application's, or the server's.
        seen: the status that was sent already, if one was.
        sock: the client's socket, if it is known.
        connection: the HTTP/2 connection, if it is one.
    """
    if is_client_disconnect(exc, sock) or _connection_is_gone(exc, connection):
        return CLIENT_GONE
    if seen is not None:
        return int(seen)
    if isinstance(exc, SSLError):  # gunicorn takes even the application's for the client's, and forbids
        return 403 if _reaches_error_handling(exc) else 500
    if is_clients_fault(exc):
        return int(getattr(exc, "code", 400))
    return 500


def status_of_server(exc: BaseException, seen: int | None) -> int:
    """Return the same where not gunicorn but its library serves: gevent's pywsgi, or Tornado, which sends nothing.

    What they take for the client's is only what pywsgi raises itself.
    """
    if is_client_disconnect(exc):
        return CLIENT_GONE
    if seen is not None:
        return seen
    return int(getattr(exc, "code", 400)) if type(exc).__module__ == PYWSGI else 500


def is_clients_fault(exc: BaseException) -> bool:
    """Return whether the server refuses a request because the request itself is wrong."""
    if type(exc).__module__ in (PYWSGI, UWSGI_ERRORS):  # their exceptions are all of this kind
        return True
    if isinstance(exc, SERVER_FAULTS) or type(exc).__name__.startswith("InvalidResponseHeader"):
        return False
    return isinstance(exc, (ParseException, SSLError))


def remember_failing(recorder: Recorder, req: Any, labels: tuple[str, str], raised: BaseException) -> None:
    """Keep the labels of a request whose exception goes on to gunicorn, in case it reaches gunicorn's error handling.

    The exception of an HTTP/2 stream always does, without a call of ``handle_error``: it is counted here.
    """
    if hasattr(req, "stream"):
        recorder.count(ERROR_HANDLING, *labels, recorder.error_type(error_type_of(raised)))
    elif _reaches_error_handling(raised):
        _keep(recorder, req, labels)


def ignore_failing(recorder: Recorder, req: Any, raised: BaseException | None) -> None:
    """Note that the exception of a request that is left out is not to be counted by gunicorn's error handling."""
    if raised is not None and not hasattr(req, "stream") and _reaches_error_handling(raised):
        _keep(recorder, req, LEFT_OUT)


def _keep(recorder: Recorder, req: Any, labels: tuple[str, str]) -> None:
    if len(recorder.failing) >= _MAX_PENDING:
        recorder.failing.clear()
    recorder.failing[id(req)] = labels


def _reaches_error_handling(raised: BaseException) -> bool:
    """Return whether gunicorn calls ``handle_error`` for this exception; others only end the connection."""
    if isinstance(raised, SSLError):
        return raised.args[:1] != (SSL_ERROR_EOF,)
    return not isinstance(raised, (StopIteration, OSError))


def watch_error_handling(worker: Any, recorder: Recorder, errors: ErrorReporter) -> None:
    """Count what reaches gunicorn's error handling in this worker, malformed requests included.

    A request that cannot be parsed calls no hook, and is logged only at some log levels. So the worker object's own
    ``handle_error`` is called through a function that counts first.
    """
    handle_error = getattr(worker, "handle_error", None)
    if handle_error is None:
        return

    def count(known: tuple[str, str] | None, req: Any, exc: BaseException) -> None:
        method, endpoint = known or (method_label(getattr(req, "method", None)), UNMATCHED)
        error_type = recorder.error_type(error_type_of(exc))
        recorder.count(ERROR_HANDLING, method, endpoint, error_type)
        if is_clients_fault(exc) and not (known and isinstance(exc, SSLError)):
            recorder.count(INVALID, error_type)

    def counted(req: Any, client: Any, addr: Any, exc: BaseException) -> Any:
        try:
            with recorder.lock:
                known = recorder.failing.pop(id(req), None)
                if known is not LEFT_OUT:
                    count(known, req, exc)
        except Exception:  # noqa: BLE001 - gunicorn must go on to answer the client
            errors.report("handle_error")
        return handle_error(req, client, addr, exc)

    worker.handle_error = counted
