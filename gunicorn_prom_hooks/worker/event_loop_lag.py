"""The lag of a worker's event loop: how late a timer in it comes, at a random moment of each half second."""

from __future__ import annotations

import contextlib
import os
import sys
from bisect import bisect_left
from collections.abc import Callable
from random import Random
from time import monotonic
from typing import Any

from .._gunicorn import GEVENT, is_a
from ..errors import ErrorReporter
from ..shm.layout import LOOP_DUE
from ..shm.schema import LAG_BUCKETS, LAG_PERIOD_SECONDS, lag_samples, lag_samples_per_bucket
from .recording.recorder import Recorder

Later = Callable[[float, Callable[[], None]], Any]
"""Calls a function in the loop, once, after this number of seconds."""


class LoopTimer:
    """A timer in the event loop of this worker, if it has one.

    Each worker class that has a loop calls ``worker.notify`` in it, for the first time when it has begun to serve. That
    is where the timer starts, so the time that the application takes to start in the loop is no lag. It needs no task
    and no greenlet, and keeps no loop from ending.

    It is due once in each period of ``LAG_PERIOD_SECONDS``, at a random moment, whatever the loop does. Were it set at
    a fixed time after it has come, it would always come at the same moment of calls that take equally long.

    Args:
        recorder: has the cells that it counts in. No other code writes them, so no lock is needed.
        errors: where failures end.
    """

    def __init__(self, recorder: Recorder, errors: ErrorReporter) -> None:
        self._recorder = recorder
        self._words = recorder.slot.words
        self._header = recorder.slot.header
        self._sum = recorder.loop_lag
        self._errors = errors
        self._pid = os.getpid()
        self._later: Later | None = None
        self._random: Callable[[], float] = Random().random  # noqa: S311 - not the application's, with its seed
        self._period = 0.0
        """Monotonic seconds at which the period begins in which the timer is due."""
        recorder.followers.append(self._follow)

    def _follow(self) -> None:
        self._words = self._recorder.slot.words
        self._header = self._recorder.slot.header

    def start_with(self, worker: Any) -> None:
        """Start when the worker first calls its ``notify``, in the loop that runs then. Without one, do nothing.

        Args:
            worker: gunicorn's. Its ``notify`` is called through another function, until then only.
        """
        try:
            self._wrap(worker, worker.notify)
        except Exception:  # noqa: BLE001 - an unknown class, whose requests are still to be recorded
            self._errors.report("event_loop_lag")

    def _wrap(self, worker: Any, notify: Callable[[], Any]) -> None:
        of_class = "notify" not in worker.__dict__

        def notifying() -> Any:
            try:
                if worker.__dict__.get("notify") is notifying:
                    if of_class:
                        del worker.notify
                    else:  # a function of the user's, as for a watchdog of their own
                        worker.notify = notify
                if self._later is None:
                    self._later = _running_loop(worker)
                    self._period = monotonic()
                    self._set()
            except Exception:  # noqa: BLE001 - it is the worker's heartbeat that this is called in
                self._errors.report("event_loop_lag")
            return notify()

        worker.notify = notifying

    def stop(self) -> None:
        """Stop: the worker exits, and its loop has ended."""
        self._later = None
        self._header[LOOP_DUE] = 0.0

    def _set(self) -> None:
        if self._later is not None:
            self._header[LOOP_DUE] = due = self._period + self._random() * LAG_PERIOD_SECONDS
            self._later(max(0.0, due - monotonic()), self._due)

    def _due(self) -> None:
        # An exception would go to the application's own handler. A process that the application forks inherits the
        # loop, and must not count here.
        try:
            if self._later is not None and os.getpid() == self._pid:
                lag = max(0.0, monotonic() - self._header[LOOP_DUE])
                self._period += lag_samples(lag)[0] * LAG_PERIOD_SECONDS
                self._set()  # before it is counted: a scrape in between misses it, instead of having it twice
                self._count(lag)
        except Exception:  # noqa: BLE001
            self._errors.report("event_loop_lag")

    def _count(self, lag: float) -> None:
        words, at = self._words, self._sum + 1
        if lag < LAG_PERIOD_SECONDS:
            words[self._sum] += lag
            words[at + bisect_left(LAG_BUCKETS, lag)] += 1.0
            return
        words[self._sum] += lag_samples(lag)[2]
        for number, count in enumerate(lag_samples_per_bucket(lag)):
            words[at + number] += count


def _running_loop(worker: Any) -> Later | None:
    """Return what sets a timer in the loop that this is called in; None if there is none."""
    loop = None
    with contextlib.suppress(RuntimeError, KeyError):  # where no loop runs, nothing need be imported to know it
        loop = sys.modules["asyncio"].get_running_loop()
    if loop is not None:  # uvloop and Tornado's are such loops as well
        later: Later = loop.call_later
        return later
    if is_a(type(worker), GEVENT):
        return _gevent_later(sys.modules["gevent"].get_hub().loop)
    return None


def _gevent_later(loop: Any) -> Later:
    """Return what sets a timer in the loop of gevent's hub. Each one ends when the next but one is set."""
    timers: list[Any] = []

    def later(seconds: float, call: Callable[[], None]) -> None:
        # Without ``ref`` the timer does not keep the loop running. ``update``: the loop's own clock may be behind.
        # libuv warns of less than a millisecond.
        timer = loop.timer(max(0.001, seconds), ref=False)
        timer.start(call, update=True)
        timers.append(timer)
        if len(timers) > 2:  # the last but one is the one that this is called in
            timers.pop(0).close()

    return later
