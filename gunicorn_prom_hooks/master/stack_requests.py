"""A worker that has timed out is asked for its stacks before gunicorn ends it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from ..concurrency import unpatched
from ..shm.layout import STACKS, STACKS_ARMED, STACKS_ASKED
from ..shm.stack_file import SIGNAL, Stacks
from .workers import TrackedWorker

WAIT_SECONDS: Final = 0.1
"""How long the master waits for the stacks of a worker; it takes a millisecond or two as a rule."""
PAUSE_SECONDS: Final = 60.0
"""After a worker that has not answered in that time the master waits for no other one for a while."""
_STEP_SECONDS: Final = 0.002
_TIMEOUT: Final = "WORKER TIMEOUT (pid:"
"""The beginning of what gunicorn logs before it sends SIGABRT, in ``Arbiter.murder_workers``; the pid follows."""


class StackRequests:
    """Sends ``SIGNAL`` to a worker that gunicorn is about to abort, and waits until the stacks are written.

    SIGABRT may end the worker at once, as uvicorn's does, in the middle of writing.

    Args:
        members: the live workers.
        stacks: what they write.
    """

    def __init__(self, members: Callable[[], Iterable[TrackedWorker]], stacks: Stacks) -> None:
        self._members = members
        self._stacks = stacks
        self._no_wait_before = 0.0

    def listen(self, text: object, args: Any) -> None:
        """Take note of a message of gunicorn's own. Another one than that of a timeout costs nothing."""
        if isinstance(text, str) and text.startswith(_TIMEOUT):
            number = (text % args if args else text).removeprefix(_TIMEOUT).partition(")")[0]
            for member in self._members():
                if str(member.worker.pid) == number:
                    self._ask(member)

    def _ask(self, member: TrackedWorker) -> None:
        header = member.lease.slot.header
        if header[STACKS] != STACKS_ARMED:  # the signal would end it
            return
        header[STACKS] = STACKS_ASKED
        self._stacks.clear(member.lease.number)
        try:
            os.kill(member.worker.pid, SIGNAL)
        except ProcessLookupError:  # before gunicorn 24 it may have been reaped in the meantime
            return
        start = time.monotonic()
        if start >= self._no_wait_before and not self._wait(member, start + WAIT_SECONDS):
            self._no_wait_before = time.monotonic() + PAUSE_SECONDS

    def _wait(self, member: TrackedWorker, deadline: float) -> bool:
        """Whether the stacks were written in time."""
        before = 0
        while time.monotonic() < deadline:
            written = self._stacks.written(member.lease.number)
            if written and written == before and not _is_writing(member.worker.pid):
                return True
            before = written
            unpatched("time", "sleep")(_STEP_SECONDS)
        return False


def _is_writing(pid: int) -> bool:
    """Whether the process has the signal pending, or blocked, as it is while its handler runs. False if unknown."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return False
    sets = (line.partition(b":")[2] for line in lines if line.startswith((b"SigPnd:", b"ShdPnd:", b"SigBlk:")))
    return any(int(signals, 16) >> (SIGNAL - 1) & 1 for signals in sets)
