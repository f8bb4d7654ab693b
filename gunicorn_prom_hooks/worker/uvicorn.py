"""uvicorn's worker: what it makes of the application it decides by a look at it, so ours has to look the same."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, Final

from ..guard import Guard
from ..scoreboard.families import ERROR_HANDLING, INVALID, OTHER, UNMATCHED
from . import asgi
from .asgi_requests import AsgiRequests
from .clients import Application, Receive, Scope, Send
from .recorder import Recorder

REFUSES: Final = "Invalid HTTP request received."
"""What uvicorn logs, and all that it tells, of a request that it answers with 400 since it cannot parse it."""
ERROR_TYPE: Final = "InvalidRequest"


def record(worker: Any, recorder: Recorder, guard: Guard, begin: Callable[[], AsgiRequests]) -> None:
    """Has the requests of the worker's application recorded, unless uvicorn is told to run it as WSGI, on threads.

    Args:
        worker: gunicorn's.
        recorder: where they are recorded.
        guard: where failures end.
        begin: called when the application is there: one that a factory makes is there only when uvicorn has called it.
    """
    logging.getLogger("uvicorn.error").addFilter(Refusals(recorder, guard))
    app, config = worker.wsgi, worker.config
    if config.interface == "wsgi":
        return
    is_factory = config.factory

    def factory() -> Any:
        try:  # as uvicorn does
            loaded = app()
        except TypeError:
            if is_factory:
                raise
            loaded = app
        try:
            return _recorded(loaded, worker, begin())
        except Exception:  # noqa: BLE001 - it must be served, recorded or not
            guard.failed("asgi")
            return loaded

    config.factory = True
    worker.wsgi = factory


def _recorded(app: Any, worker: Any, requests: AsgiRequests) -> Any:
    interface = worker.config.interface
    if interface == "asgi3" or (interface == "auto" and _is_asgi3(app)):
        return asgi.recorded(app, worker, requests, asgi.UVICORN)

    async def single(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope)(receive, send)

    recorded: Application = asgi.recorded(single, worker, requests, asgi.UVICORN)

    def double(scope: Scope) -> Any:
        async def instance(receive: Receive, send: Send) -> None:
            await recorded(scope, receive, send)

        return instance

    return double


def _is_asgi3(app: Any) -> bool:
    """Uvicorn's own rule."""
    if inspect.isclass(app):
        return hasattr(app, "__await__")
    called = app if inspect.isfunction(app) else getattr(app, "__call__", None)  # noqa: B004 - it may be a coroutine
    return inspect.iscoroutinefunction(called)


class Refusals(logging.Filter):
    """Counts the requests that uvicorn refuses, by the warning that it logs; it lets every message through."""

    def __init__(self, recorder: Recorder, guard: Guard) -> None:
        super().__init__()
        self._recorder = recorder
        self._guard = guard

    def filter(self, record: logging.LogRecord) -> bool:
        """Called for each message that the logger's level lets through."""
        if record.msg == REFUSES:
            try:
                error_type = self._recorder.error_type(ERROR_TYPE)
                self._recorder.count(ERROR_HANDLING, OTHER, UNMATCHED, error_type)
                self._recorder.count(INVALID, error_type)
            except Exception:  # noqa: BLE001 - it is somebody's log message that we are in
                self._guard.failed("messages")
        return True
