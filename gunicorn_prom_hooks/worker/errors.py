"""What went wrong with a request: the exception behind it, and the status the client saw."""

from __future__ import annotations

import errno
from ssl import SSLError
from types import TracebackType
from typing import Any

from gunicorn.http.errors import ConfigurationProblem, NoMoreData, ParseException

try:
    from gunicorn.http2.errors import HTTP2ConnectionError, HTTP2ProtocolError, HTTP2StreamError

    _STREAM_GONE: tuple[type[Exception], ...] = (HTTP2ConnectionError, HTTP2ProtocolError, HTTP2StreamError)
except ImportError:  # before gunicorn 25
    _STREAM_GONE = ()

from ..guard import Guard
from ..scoreboard.families import ERROR_HANDLING, INVALID, UNMATCHED
from ..scoreboard.layout import ABORT_AT, DIED_ON, DIED_START, QUIT_AT
from ..scoreboard.slot import Slot
from .recorder import Recorder, method_label

CLIENT_GONE = 499
"""Status of a request whose client left before it had the whole response; nginx's number for it."""

_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ECONNABORTED, errno.ETIMEDOUT})
_TRANSPORTS = frozenset({"socket", "ssl", "gevent", "selectors"})
_MAX_PENDING = 128


def real_exception(exc: BaseException) -> BaseException:
    """The application's exception.

    Where the response had begun, gunicorn logs the exception and raises ``StopIteration`` in its place.
    """
    if isinstance(exc, StopIteration) and exc.__context__ is not None:
        return exc.__context__
    return exc


def is_goodbye(exc: BaseException) -> bool:
    """Whether gunicorn raised this itself, after a complete response, to close the connection.

    Its gevent worker does, with a bare ``StopIteration``, for every request that is the last one of its connection.
    """
    if not isinstance(exc, StopIteration) or exc.__context__ is not None:
        return False
    traceback = exc.__traceback__
    if traceback is not None and traceback.tb_next is None:  # raised where we are called from, as it always is
        return str(traceback.tb_frame.f_globals.get("__name__")).startswith("gunicorn.")
    return _raised_in(traceback) == "gunicorn"


def client_left(exc: BaseException) -> bool:
    """Whether the exception says that the client went away, and not that the application's own peer did.

    A database that resets its connection raises the very same ``ConnectionResetError``. What tells them apart is who
    was using the socket: gunicorn is the only one to read from and write to the client's.
    """
    if isinstance(exc, (NoMoreData, *_STREAM_GONE)):
        return True
    if not isinstance(exc, OSError) or not (isinstance(exc, SSLError) or exc.errno in _GONE):
        return False
    return _raised_in(exc.__traceback__) in ("gunicorn", "")


def _connection_is_gone(exc: BaseException, resp: Any) -> bool:
    """Whether the client had ended the HTTP/2 connection before it was sent what this exception kept from it.

    gunicorn learns of a GOAWAY as it reads it, and of what that means only when h2 refuses to send anything more.
    """
    connection = getattr(resp, "h2_conn", None)
    return connection is not None and connection.is_closed and _raised_in(exc.__traceback__) == "h2"


def _raised_in(traceback: TracebackType | None) -> str:
    """Top-level package of the innermost frame that is not the transport itself; empty if there is none."""
    package = ""
    while traceback is not None:
        name = traceback.tb_frame.f_globals.get("__name__", "").partition(".")[0]
        if name not in _TRANSPORTS and name != __name__.partition(".")[0]:
            package = name
        traceback = traceback.tb_next
    return package


def status_of(exc: BaseException, resp: Any) -> int:
    """The status that the client saw of a request that ended with this exception."""
    if client_left(exc) or _connection_is_gone(exc, resp):
        return CLIENT_GONE
    if resp is not None and resp.headers_sent:
        return int(getattr(resp, "status_code", 500))
    if is_clients_fault(exc):
        return int(getattr(exc, "code", 400))
    return 500


def ends_with_worker(exc: BaseException, slot: Slot) -> bool:
    """Whether gunicorn's handler of a signal that ends the worker raised this in the middle of a request."""
    return isinstance(exc, SystemExit) and bool(slot.header[QUIT_AT] or slot.header[ABORT_AT])


def is_cut_off(exc: BaseException, worker: Any) -> bool:
    """Whether gunicorn's gevent worker cuts this request off, on its way out, without a word to the client.

    It does with ``SystemExit`` out of a signal handler, and with ``GreenletExit`` when ``graceful_timeout`` is over.
    """
    return not isinstance(exc, Exception) and not worker.alive


def die_on(slot: Slot, at: int) -> None:
    """Leaves word for the master that the worker died on the request whose start is at ``at`` among the doubles."""
    slot.header[DIED_START] = slot.words[at]
    slot.header[DIED_ON] = at


def is_clients_fault(exc: BaseException) -> bool:
    """Whether gunicorn refuses a request for what is wrong with the request itself."""
    if isinstance(exc, ConfigurationProblem) or type(exc).__name__.startswith("InvalidResponseHeader"):
        return False
    return isinstance(exc, (ParseException, SSLError))


def remember_failing(recorder: Recorder, req: Any, method: str, endpoint: str, error_type: str) -> None:
    """Keeps the labels of a request whose exception goes on to gunicorn, in case it reaches its error handling.

    That of an HTTP/2 stream always does, and nothing is called that would tell.
    """
    if hasattr(req, "stream"):
        recorder.count(ERROR_HANDLING, method, endpoint, recorder.error_type(error_type))
        return
    if len(recorder.failing) >= _MAX_PENDING:
        recorder.failing.clear()
    recorder.failing[id(req)] = method, endpoint


def watch_error_handling(worker: Any, recorder: Recorder, guard: Guard) -> None:
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
                error_type = recorder.error_type(type(exc).__name__)
                recorder.count(ERROR_HANDLING, method, endpoint, error_type)
                if is_clients_fault(exc):
                    recorder.count(INVALID, error_type)
        except Exception:  # noqa: BLE001 - gunicorn must go on to answer the client
            guard.failed("handle_error")
        return handle_error(req, client, addr, exc)

    worker.handle_error = counted
