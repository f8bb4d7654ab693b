"""The runtime of a worker process: its slot, its states, and the request hooks for its class."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from functools import partial
from typing import Any, Final

from .._gunicorn import UVICORN, handled_signal, is_a
from ..errors import ErrorReporter
from ..paths import path_filter
from ..settings import Settings
from ..shm.layout import (
    ABORT_AT,
    CAUSE_MAX_REQUESTS,
    CAUSE_RELOADER,
    CAUSE_SIGNAL,
    CAUSE_UNCOUNTED,
    CAUSE_UNKNOWN,
    EXIT_CAUSE,
    EXIT_MARK,
    PID,
    QUIT_AT,
    RUNNING_AT,
    RUNNING_CLOCK,
    STACKS,
    STACKS_ARMED,
    STACKS_ASKED,
)
from ..shm.reader import SlotReader
from ..shm.stack_file import SIGNAL, is_signal_in_use
from .event_loop_lag import LoopTimer
from .instrument import record
from .recording.exceptions import watch_error_handling
from .recording.labels import resolver
from .recording.recorder import Recorder
from .recording.sync_hooks import PostRequest, PreRequest

SIGNAL_HOOKS: Final = ("worker_int", "worker_abort")
"""The hooks that run in signal handlers of the worker."""
_MAX_CONTEXTS: Final = 20
"""Bound of a chain of exceptions, each raised while the next one was handled."""


class WorkerRuntime:
    """One per worker process, from ``post_fork`` on.

    Args:
        worker: gunicorn's worker object.
        reader: of the slot that is leased to it, as the master has left it.
        settings: the user's.
        bounds: of the duration buckets.
        errors: where failures are reported.
    """

    def __init__(
        self, worker: Any, reader: SlotReader, settings: Settings, bounds: tuple[float, ...], errors: ErrorReporter
    ) -> None:
        self.pid = os.getpid()
        self.is_ready = False
        self._cause = CAUSE_UNKNOWN
        self._worker = worker
        self._header = reader.slot.header
        self._header[PID] = self.pid
        self._settings = settings
        self._errors = errors
        self._recorder = Recorder(
            reader.slot,
            settings.max_endpoints,
            reader.all_series,
            bounds,
            size_histograms=settings.size_histograms,
            is_excluded=path_filter(settings.exclude),
        )
        self._loop_timer = LoopTimer(self._recorder, errors)
        errors.publish = self._publish
        os.register_at_fork(after_in_child=self._leave_slot)

    def ready(self) -> tuple[PreRequest, PostRequest] | None:
        """Start recording, with the application loaded. Return the request hooks; None if the class calls none."""
        watch_error_handling(self._worker, self._recorder, self._errors)
        self._loop_timer.start_with(self._worker)
        if self._header[STACKS] and is_signal_in_use():  # by the application, whose handler must not run
            self._header[STACKS] = 0.0
        self._header[RUNNING_CLOCK] = time.monotonic()
        self._header[RUNNING_AT] = time.time()
        self.is_ready = True
        find_resolve = partial(resolver, self._settings.endpoint, self._errors)
        return record(self._worker, self._recorder, find_resolve, self._errors, self._settings.queue_header)

    def _leave_slot(self) -> None:
        try:
            self._recorder.leave_slot()
        except Exception:  # noqa: BLE001 - a fork must succeed
            self._errors.report("fork")

    def _publish(self, where: str) -> None:
        # What a signal handler interrupted may be at work on the slot: a failure in there is only logged. So is one of
        # a process that this worker has forked: a slot has one writer.
        if where not in SIGNAL_HOOKS and os.getpid() == self.pid:
            self._recorder.exporter_error(where)

    def message(self, level: str) -> None:
        """Count a message to gunicorn's error log. Called in any thread, and in signal handlers."""
        self._recorder.message(level)

    def interrupted(self) -> None:
        """Record why the worker exits. Called in ``worker_int``: in a signal handler or the reloader's thread."""
        number = handled_signal()
        if not number and is_a(type(self._worker), *UVICORN):
            return  # it goes on serving, whatever gunicorn's reloader has set
        self._cause = CAUSE_SIGNAL + number if number else CAUSE_RELOADER
        self.quitting()

    def quitting(self) -> None:
        """Record that the worker exits. May be called in a signal handler."""
        if not self._header[QUIT_AT] and not self._header[ABORT_AT]:
            self._header[QUIT_AT] = time.time()

    def aborting(self) -> None:
        """Record a SIGABRT, usually because of the timeout. Called in a signal handler; only the first call counts."""
        if self._header[ABORT_AT]:
            return
        self._header[ABORT_AT] = time.time()
        if self._header[STACKS] == STACKS_ARMED:  # not the master's: it asks for the stacks before it sends SIGABRT
            self._header[STACKS] = STACKS_ASKED
            signal.raise_signal(SIGNAL)

    def leaving(self) -> None:
        """Record cause and code of an orderly exit. Called last."""
        self.quitting()
        self._loop_timer.stop()
        self._header[EXIT_CAUSE] = self._exit_cause()
        exc = sys.exc_info()[1]
        self._header[EXIT_MARK] = 1.0 + _exit_code(exc)
        if not self.is_ready and self._settings.port and _is_port_taken(exc):
            self._worker.log.error(
                "gunicorn_prom_hooks: the worker could not bind a port: address already in use; the metrics have port "
                "%d: if it is that one, set another",
                self._settings.port,
            )

    def _exit_cause(self) -> float:
        worker = self._worker
        if worker.nr >= worker.max_requests:
            return CAUSE_MAX_REQUESTS
        if self._header[ABORT_AT]:
            return CAUSE_SIGNAL + signal.SIGABRT
        if self._cause == CAUSE_UNKNOWN and not worker.alive:
            # No hook tells of SIGTERM; an application may as well have set ``alive``, and so has the reloader, in whose
            # thread ``worker_int`` is called only after that.
            return CAUSE_RELOADER if worker.reloader is not None else CAUSE_SIGNAL + signal.SIGTERM
        if self._cause == CAUSE_UNKNOWN and worker.nr == 0 and worker.max_requests < sys.maxsize:
            return CAUSE_UNCOUNTED  # uvicorn's worker
        return self._cause


def _is_port_taken(exc: BaseException | None) -> bool:
    """Return whether an exception was raised because of a port, itself or the one while which it was raised."""
    for _ in range(_MAX_CONTEXTS):
        if exc is None:
            break
        if isinstance(exc, OSError) and exc.errno == errno.EADDRINUSE:
            return True
        exc = exc.__context__
    return False


def _exit_code(exc: BaseException | None) -> int:
    """Return the exit code, 0 to 255, of a process that this exception is about to end."""
    if exc is None:
        return 0
    if not isinstance(exc, SystemExit):
        return 1
    if exc.code is None:
        return 0
    return exc.code & 255 if isinstance(exc.code, int) else 1
