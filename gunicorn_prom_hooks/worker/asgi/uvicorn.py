"""uvicorn's worker: the application as uvicorn has loaded it is wrapped."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from ..._gunicorn import UVICORN_LOGGER, UVICORN_REFUSAL
from ...errors import ErrorReporter
from ...shm.schema import ERROR_HANDLING, INVALID, OTHER, UNMATCHED
from ..recording.recorder import Recorder
from . import middleware
from .request_recorder import AsgiRequests

ERROR_TYPE: Final = "InvalidRequest"


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
    logging.getLogger(UVICORN_LOGGER).addFilter(Refusals(recorder, errors))
    config = worker.config
    load = config.load

    def record_loaded() -> None:
        try:
            config.loaded_app = middleware.recorded(config.loaded_app, worker, begin(), middleware.UVICORN)
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
    """Counts the requests that uvicorn refuses, by the warning that it logs; it lets every message through."""

    def __init__(self, recorder: Recorder, errors: ErrorReporter) -> None:
        super().__init__()
        self._recorder = recorder
        self._errors = errors

    def filter(self, record: logging.LogRecord) -> bool:
        """Count the message if it is a refusal; the logger's level has let it through."""
        if record.msg == UVICORN_REFUSAL:
            try:
                error_type = self._recorder.error_type(ERROR_TYPE)
                self._recorder.count(ERROR_HANDLING, OTHER, UNMATCHED, error_type)
                self._recorder.count(INVALID, error_type)
            except Exception:  # noqa: BLE001 - a failure must not lose the log message
                self._errors.report("messages")
        return True
