"""gunicorn's tornado worker, which runs WSGI applications and Tornado's own."""

from __future__ import annotations

import sys
from time import monotonic
from typing import Any

from ..recording.headers import size_of_length
from ..recording.requests import Requests
from . import application


def record(worker: Any, requests: Requests, queue_header: str | None, queue_key: str | None) -> None:
    """Have the requests of the worker's application recorded, unless it is WSGI on threads of an executor.

    The worker's ``run`` makes an HTTP server of the application and then makes each listener non-blocking. The first
    listener's ``setblocking`` is called through a function, which wraps what that server calls. ``worker.wsgi`` is left
    as it is.

    Args:
        worker: gunicorn's.
        requests: where they are recorded.
        queue_header: name of the header with the time at which a proxy passed the request on.
        queue_key: its key in a WSGI environ.
    """
    listener = worker.sockets[0]
    setblocking = listener.setblocking

    def watched(flag: Any) -> Any:
        del listener.setblocking  # the class's own is found again
        try:
            served = worker.server.request_callback
            if isinstance(served, sys.modules["tornado.web"].Application):
                _record_ends(served, requests, queue_header)
            elif getattr(served, "executor", None) in (None, sys.modules["tornado.concurrent"].dummy_executor):
                wsgi = served.wsgi_application
                served.wsgi_application = application.recorded(wsgi, worker, requests, queue_key)
        except Exception:  # noqa: BLE001 - it must be served, recorded or not
            requests.errors.report("tornado")
        return setblocking(flag)

    listener.setblocking = watched


def _record_ends(app: Any, requests: Requests, queue_header: str | None) -> None:
    """Have the requests of a Tornado application recorded when they end: it then calls its own ``log_request``."""
    log_request = app.log_request

    def counted(handler: Any) -> Any:
        try:
            _record_end(handler, requests, queue_header)
        except Exception:  # noqa: BLE001 - the next request must be served
            requests.errors.report("tornado")
        return log_request(handler)

    app.log_request = counted


def _record_end(handler: Any, requests: Requests, queue_header: str | None) -> None:
    request, status = handler.request, handler.get_status()
    received = 0, 0
    if "Content-Length" in request.headers or "Transfer-Encoding" in request.headers:
        received = size_of_length(request.headers.get("Content-Length", ""))
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in request.headers.items()]
    has_body = request.method != "HEAD" and status not in (204, 304)
    started = requests.start(request.method, request.path, monotonic() - request.request_time())
    if started is not None:
        requests.finish(
            started,
            {"method": request.method, "path": request.path, "headers": headers},  # for the ``endpoint`` setting
            status,
            _sent(handler) if has_body else 0,
            app_status=status,
            received=received,
            queue_stamp=request.headers.get(queue_header) if queue_header else None,
        )


def _sent(handler: Any) -> int | None:
    """Return the bytes of the body by its Content-Length; None without one."""
    length = handler._headers.get("Content-Length", "")  # noqa: SLF001 - no public way leads to a header that was set
    return int(length) if length.isdecimal() else None
