"""What went wrong with a request: the exception behind it, and the status the client saw."""

from __future__ import annotations

import errno
import select
from ssl import SSL_ERROR_EOF, SSLError
from types import FrameType, TracebackType
from typing import Any

from gunicorn.http.errors import ConfigurationProblem, NoMoreData, ParseException
from gunicorn.http.wsgi import FileWrapper

try:
    from gunicorn.http2.errors import HTTP2ConnectionError, HTTP2ProtocolError, HTTP2StreamError

    _STREAM_GONE: tuple[type[Exception], ...] = (HTTP2ConnectionError, HTTP2ProtocolError, HTTP2StreamError)
except ImportError:  # before gunicorn 25
    _STREAM_GONE = ()

from ...concurrency import unpatched
from ...errors import ErrorReporter
from ...shm.schema import ERROR_HANDLING, INVALID, UNMATCHED
from .interrupted import error_type_of
from .recorder import Recorder, method_label

CLIENT_GONE = 499
"""Status of a request whose client left before it had the whole response; nginx's number for it."""

_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ECONNABORTED, errno.ETIMEDOUT})
_TRANSPORTS = frozenset({"socket", "ssl", "gevent", "selectors"})
_PYWSGI = "gevent.pywsgi"
"""The server of gunicorn's gevent_pywsgi worker, which is no transport."""
_MAX_PENDING = 128


def real_exception(exc: BaseException) -> BaseException:
    """The application's exception.

    Where the response had begun, gunicorn logs the exception and raises ``StopIteration`` in its place.
    """
    if isinstance(exc, StopIteration) and exc.__context__ is not None:
        return exc.__context__
    return exc


def is_connection_close(exc: BaseException) -> bool:
    """Whether gunicorn raised this itself, after a complete response, to close the connection.

    Its gevent worker does, with a bare ``StopIteration``, for every request that is the last one of its connection.
    """
    if not isinstance(exc, StopIteration) or exc.__context__ is not None:
        return False
    traceback = exc.__traceback__
    if traceback is not None and traceback.tb_next is None:  # raised where we are called from, as it always is
        return str(traceback.tb_frame.f_globals.get("__name__")).startswith("gunicorn.")
    return _raised_in(traceback) == "gunicorn"


def is_client_disconnect(exc: BaseException, sock: Any = None) -> bool:
    """Return whether the server failed to read from or write to the client, which is gone.

    A database that resets its connection raises the very same ``ConnectionResetError``. So two things must be true:
    the server's own code used the socket, and the kernel says that the client's connection is over.

    Args:
        exc: what ended the request.
        sock: the client's socket, if it is known.
    """
    if isinstance(exc, (NoMoreData, *_STREAM_GONE)):
        return True
    if type(exc) is OSError and exc.errno is None:  # as gevent's server says that a request body is cut short
        frame = _innermost(exc.__traceback__)
        return frame is not None and _module(frame) == _PYWSGI
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
    if name == _PYWSGI:
        return True
    if not name.startswith("gunicorn.") or name.startswith("gunicorn.workers."):
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


def _connection_is_gone(exc: BaseException, resp: Any) -> bool:
    """Whether the client had ended the HTTP/2 connection before it was sent what this exception kept from it.

    gunicorn learns of a GOAWAY as it reads it, and of what that means only when h2 refuses to send anything more.
    """
    connection = getattr(resp, "h2_conn", None)
    return connection is not None and connection.is_closed and _raised_in(exc.__traceback__) == "h2"


def _raised_in(traceback: TracebackType | None) -> str:
    """Top-level package of the innermost frame that is not the transport itself; empty if there is none."""
    frame = _innermost(traceback)
    return "" if frame is None else _module(frame).partition(".")[0]


def _innermost(traceback: TracebackType | None) -> FrameType | None:
    """The innermost frame that is not the transport itself."""
    found = None
    while traceback is not None:
        name = _module(traceback.tb_frame)
        if name.partition(".")[0] not in _TRANSPORTS or name == _PYWSGI:
            found = traceback.tb_frame
        traceback = traceback.tb_next
    return found


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def status_of(exc: BaseException, resp: Any) -> int:
    """The status that the client saw of a request that ended with this exception."""
    if is_client_disconnect(exc, getattr(resp, "sock", None)) or _connection_is_gone(exc, resp):
        return CLIENT_GONE
    if resp is not None and resp.headers_sent:
        return int(getattr(resp, "status_code", 500))
    if isinstance(exc, SSLError):  # gunicorn takes even the application's own for the client's, and forbids
        return 403 if _reaches_error_handling(exc) else 500
    if is_clients_fault(exc):
        return int(getattr(exc, "code", 400))
    return 500


def is_clients_fault(exc: BaseException) -> bool:
    """Whether the server refuses a request for what is wrong with the request itself."""
    if type(exc).__module__ == _PYWSGI:  # its exceptions are all of this kind
        return True
    if isinstance(exc, ConfigurationProblem) or type(exc).__name__.startswith("InvalidResponseHeader"):
        return False
    return isinstance(exc, (ParseException, SSLError))


def remember_failing(recorder: Recorder, req: Any, labels: tuple[str, str], raised: BaseException) -> None:
    """Keeps the labels of a request whose exception goes on to gunicorn, in case it reaches its error handling.

    That of an HTTP/2 stream always does, and nothing is called that would tell.
    """
    if hasattr(req, "stream"):
        recorder.count(ERROR_HANDLING, *labels, recorder.error_type(error_type_of(raised)))
    elif _reaches_error_handling(raised):
        if len(recorder.failing) >= _MAX_PENDING:
            recorder.failing.clear()
        recorder.failing[id(req)] = labels


def _reaches_error_handling(raised: BaseException) -> bool:
    """Whether gunicorn calls ``handle_error`` for what came out of a request; the rest only ends the connection."""
    if isinstance(raised, SSLError):
        return raised.args[:1] != (SSL_ERROR_EOF,)
    return not isinstance(raised, (StopIteration, OSError))


def watch_error_handling(worker: Any, recorder: Recorder, errors: ErrorReporter) -> None:
    """Counts what reaches gunicorn's error handling in this worker, malformed requests included.

    No hook tells: a request that cannot be parsed calls none. The log tells, but only at the log levels that let it
    through. So the worker object's own ``handle_error`` is called through a function that counts first.
    """
    handle_error = getattr(worker, "handle_error", None)
    if handle_error is None:
        return

    def counted(req: Any, client: Any, addr: Any, exc: BaseException) -> Any:
        try:
            with recorder.lock:
                known = recorder.failing.pop(id(req), None)
                method, endpoint = known or (method_label(getattr(req, "method", None)), UNMATCHED)
                error_type = recorder.error_type(error_type_of(exc))
                recorder.count(ERROR_HANDLING, method, endpoint, error_type)
                if is_clients_fault(exc) and not (known and isinstance(exc, SSLError)):
                    recorder.count(INVALID, error_type)
        except Exception:  # noqa: BLE001 - gunicorn must go on to answer the client
            errors.report("handle_error")
        return handle_error(req, client, addr, exc)

    worker.handle_error = counted
