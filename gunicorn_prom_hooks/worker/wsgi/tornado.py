"""gunicorn's tornado worker, which runs WSGI applications and Tornado's own."""

from __future__ import annotations

import sys
from time import monotonic
from typing import Any

from ..asgi.request_recorder import AsgiRequests
from ..recording.sync_hooks import Hooks
from . import application


def record(worker: Any, requests: AsgiRequests, hooks: Hooks) -> None:
    """Have the requests of the worker's application recorded, unless it is WSGI on threads of its own.

    Its ``run`` makes an HTTP server of the application and then makes each listener non-blocking. The first listener's
    ``setblocking`` is called through a function, which wraps what that server calls. ``worker.wsgi`` is left as it is.
    """
    listener = worker.sockets[0]
    setblocking = listener.setblocking

    def watched(flag: Any) -> Any:
        del listener.setblocking  # the listener's own is there again
        try:
            _record_served(worker.server.request_callback, worker, requests, hooks)
        except Exception:  # noqa: BLE001 - it must be served, recorded or not
            requests.errors.report("tornado")
        return setblocking(flag)

    listener.setblocking = watched


def _record_served(app: Any, worker: Any, requests: AsgiRequests, hooks: Hooks) -> None:
    if isinstance(app, sys.modules["tornado.web"].Application):
        _record_ends(app, requests)
    elif getattr(app, "executor", None) in (None, sys.modules["tornado.concurrent"].dummy_executor):
        app.wsgi_application = application.recorded(app.wsgi_application, worker, hooks)


def _record_ends(app: Any, requests: AsgiRequests) -> None:
    """Of a Tornado application only the end of each request is told: it calls the object's ``log_request``."""
    log_request = app.log_request

    def counted(handler: Any) -> Any:
        try:
            request, status = handler.request, handler.get_status()
            headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in request.headers.items()]
            scope = {"method": request.method, "path": request.path, "headers": headers}
            started = monotonic() - request.request_time()
            begun = requests.begin(scope, started)
            if begun is not None:
                requests.end(scope, begun, started, status, _sent(handler), status)
        except Exception:  # noqa: BLE001 - the next request must be served
            requests.errors.report("tornado")
        return log_request(handler)

    app.log_request = counted


def _sent(handler: Any) -> int | None:
    """Bytes of the body, None if nobody told."""
    length = handler._headers.get("Content-Length", "")  # noqa: SLF001 - there is no other way to a header that was set
    return int(length) if length.isdecimal() else None
