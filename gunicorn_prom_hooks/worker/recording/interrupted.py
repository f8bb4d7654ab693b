"""Requests that a signal to their worker ended: gunicorn's timeout, or an order to stop at once."""

from __future__ import annotations

import sys
from time import monotonic
from typing import Any, Final

from gunicorn.workers.base import Worker

from ...shm.layout import INTERRUPTED_REQUEST, INTERRUPTED_START
from ...shm.slot import Slot

TIMEOUT: Final = "timeout"
ABORT: Final = "abort"
SHUTDOWN: Final = "shutdown"
"""error_type of a request that a signal to its worker ended: SIGABRT at gunicorn's timeout, any other SIGABRT, and
SIGINT or SIGQUIT."""

_MAX_CONTEXTS: Final = 20
"""So many exceptions are looked at, each raised while the next one was handled."""


def interrupted_by(exc: BaseException | None) -> str:
    """Return which signal to the worker ended the request, as an error_type; empty if none did.

    gunicorn's signal handlers raise ``SystemExit`` in whatever the worker is at. It may come out as another exception,
    raised while that one was handled.
    """
    for _ in range(_MAX_CONTEXTS):
        if exc is None:
            break
        traceback = exc.__traceback__
        while traceback is not None:
            frame = traceback.tb_frame
            if frame.f_code.co_name in ("handle_abort", "handle_quit"):
                worker = frame.f_locals.get("self")
                if isinstance(worker, Worker):
                    return SHUTDOWN if frame.f_code.co_name == "handle_quit" else _aborted_by(worker)
            traceback = traceback.tb_next
        exc = exc.__context__
    return ""


def _aborted_by(worker: Worker) -> str:
    """Return whether a SIGABRT was the master's: it sends one when the worker's heartbeat is older than the timeout."""
    timeout = worker.cfg.timeout
    try:
        return TIMEOUT if timeout and monotonic() - worker.tmp.last_update() > timeout else ABORT
    except (OSError, ValueError):  # the heartbeat's file is closed
        return TIMEOUT


def error_type_of(exc: BaseException) -> str:
    """Return the error_type of a request that ended with this exception."""
    return interrupted_by(exc) or type(exc).__name__


def is_cut_off(exc: BaseException, worker: Any) -> bool:
    """Whether gunicorn's gevent worker cuts this request off, on its way out, without a word to the client.

    It does with ``SystemExit`` out of a signal handler, and with ``GreenletExit`` when ``graceful_timeout`` is over.
    What else the application raises is its own, also in a worker that is on its way out.
    """
    if isinstance(exc, Exception) or worker.alive:
        return False
    greenlet = sys.modules.get("greenlet")
    return (greenlet is not None and isinstance(exc, greenlet.GreenletExit)) or interrupted_by(exc) != ""


def mark_interrupted(slot: Slot, at: int) -> None:
    """Leaves word for the master that the worker died on the request whose start is at ``at`` among the doubles."""
    slot.header[INTERRUPTED_START] = slot.words[at]
    slot.header[INTERRUPTED_REQUEST] = at
