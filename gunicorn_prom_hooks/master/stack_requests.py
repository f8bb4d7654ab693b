"""The master's request for a worker's stacks, before gunicorn aborts a worker that has timed out."""

from __future__ import annotations

import os
import time
from typing import Any, Final

from .._gunicorn import TIMEOUT_MESSAGE
from ..concurrency import unpatched
from ..shm.layout import STACKS, STACKS_ARMED, STACKS_ASKED
from ..shm.stack_file import SIGNAL, StackFile
from .workers import TrackedWorker, WorkerRegistry

WAIT_SECONDS: Final = 0.1
"""Time that the master waits for the stacks of a worker. As a rule they take a millisecond or two."""
PAUSE_SECONDS: Final = 60.0
"""After a worker that has not answered in time, the master waits for no other worker during this time."""
_STEP_SECONDS: Final = 0.002


class StackRequests:
    """Sends ``SIGNAL`` to a worker that gunicorn is about to abort, and waits until the stacks are written.

    SIGABRT may end the worker at once, as uvicorn's does, before it has finished writing.

    Args:
        workers: the live workers.
        stacks: the file that they write into.
    """

    def __init__(self, workers: WorkerRegistry, stacks: StackFile) -> None:
        self._workers = workers
        self._stacks = stacks
        self._no_wait_before = 0.0

    def observe(self, text: object, args: Any) -> None:
        """Read a log message of gunicorn's; on the message about a timeout ask that worker for its stacks."""
        if isinstance(text, str) and text.startswith(TIMEOUT_MESSAGE):
            pid = (text % args if args else text).removeprefix(TIMEOUT_MESSAGE).partition(")")[0]
            for tracked in self._workers.live():
                if str(tracked.worker.pid) == pid:
                    self._request(tracked)

    def _request(self, tracked: TrackedWorker) -> None:
        header = tracked.lease.slot.header
        if header[STACKS] != STACKS_ARMED:  # the signal would end the worker
            return
        header[STACKS] = STACKS_ASKED
        self._stacks.clear(tracked.lease.number)
        try:
            os.kill(tracked.worker.pid, SIGNAL)
        except ProcessLookupError:  # before gunicorn 24 it may have been reaped in the meantime
            return
        start = time.monotonic()
        if start >= self._no_wait_before and not self._wait(tracked, start + WAIT_SECONDS):
            self._no_wait_before = time.monotonic() + PAUSE_SECONDS

    def _wait(self, tracked: TrackedWorker, deadline: float) -> bool:
        """Wait until the stacks are written; return whether they were written in time."""
        before = 0
        while time.monotonic() < deadline:
            size = self._stacks.size(tracked.lease.number)
            if size and size == before and not _is_writing(tracked.worker.pid):
                return True
            before = size
            unpatched("time", "sleep")(_STEP_SECONDS)
        return False


def _is_writing(pid: int) -> bool:
    """Return whether the process has the signal pending, or blocked while its handler runs. False if unknown."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return False
    sets = (line.partition(b":")[2] for line in lines if line.startswith((b"SigPnd:", b"ShdPnd:", b"SigBlk:")))
    return any(int(signals, 16) >> (SIGNAL - 1) & 1 for signals in sets)
