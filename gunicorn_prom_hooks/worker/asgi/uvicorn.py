"""uvicorn's worker: the application as uvicorn has loaded it is wrapped."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from ..._gunicorn import UVICORN_LIMIT, UVICORN_LOGGER, UVICORN_REFUSAL
from ...errors import ErrorReporter
from ...shm.schema import ERROR_HANDLING, INVALID, OTHER, UNMATCHED
from ..recording.recorder import Recorder
from . import middleware
from .request_recorder import AsgiRequests

ERROR_TYPE: Final = "InvalidRequest"
UNAVAILABLE: Final = 503


def record(worker: Any, recorder: Recorder, errors: ErrorReporter, begin: Callable[[], AsgiRequests]) -> None:
    """Have the requests of the worker's application recorded, from when its loop runs and uvicorn loads it.

    The worker's ``config.load`` is called through a function, which wraps what that has made: an ASGI 3 application,
    whatever the user's is. ``worker.wsgi`` is left as it is.

    Args:
        worker: gunicorn's.
        recorder: where they are recorded.
        errors: where failures end.
        begin: called when the application is there: one that a factory makes is there only when uvicorn has called it.
    """
    refusals = Refusals(recorder, errors)
    logging.getLogger(UVICORN_LOGGER).addFilter(refusals)
    config = worker.config
    load = config.load

    def record_loaded() -> None:
        try:
            refusals.requests = begin()
            config.loaded_app = middleware.recorded(config.loaded_app, worker, refusals.requests, middleware.UVICORN)
        except Exception:  # noqa: BLE001 - it must be served, recorded or not
            errors.report("asgi")

    def loading() -> None:
        load()
        record_loaded()

    if config.loaded:
        record_loaded()
    else:
        config.load = loading


class Refusals(logging.Filter):
    """Counts the requests that uvicorn answers itself, by the warning that it logs; it lets every message through.

    Attributes:
        requests: where those that are above the limit are recorded; None until the application is there.
    """

    def __init__(self, recorder: Recorder, errors: ErrorReporter) -> None:
        super().__init__()
        self.requests: AsgiRequests | None = None
        self._recorder = recorder
        self._errors = errors

    def filter(self, record: logging.LogRecord) -> bool:
        """Count the message if it is a refusal; the logger's level has let it through."""
        try:
            if record.msg == UVICORN_REFUSAL:
                error_type = self._recorder.error_type(ERROR_TYPE)
                self._recorder.count(ERROR_HANDLING, OTHER, UNMATCHED, error_type)
                self._recorder.count(INVALID, error_type)
            elif record.msg == UVICORN_LIMIT and self.requests is not None:
                _count_unavailable(self.requests)
        except Exception:  # noqa: BLE001 - a failure must not lose the log message
            self._errors.report("messages")
        return True


def _count_unavailable(requests: AsgiRequests) -> None:
    """Count a request that the application is not called for. The message does not tell what it is a request for."""
    begun = requests.start("", "", monotonic())
    if begun is not None:
        requests.finish(begun, {}, UNAVAILABLE, None, label=UNMATCHED, keep=False)
