"""What gunicorn's log says of how processes ended and why: the master's hooks are not told."""

from __future__ import annotations

import re
import signal
import time
from collections import Counter
from typing import Any, Final

from ..concurrency import new_reentrant_lock

MAX_ENDS: Final = 4096
"""Ends that nobody asks for: before version 25 gunicorn logs those of any child. The oldest go first."""
_END: Final = re.compile(
    r"Worker \(pid:(\d+)\) (?:was sent (?:(SIG\w+|signal \d+)|code (\d+))!|exited with code (\d+))"
)
_BOOT_EXITS: Final = (3, 4)
"""gunicorn's Arbiter.WORKER_BOOT_ERROR and APP_LOAD_ERROR: having logged one of these, it shuts down."""
_STOPPING: Final = ("Handling signal: term", "Handling signal: int", "Handling signal: quit", "Unhandled exception in")


class ExitLogParser:
    """Listens to the log messages of the master.

    gunicorn logs every end but an exit with code 0 in ``Arbiter.reap_workers``, before it calls ``child_exit``. From
    gunicorn 23 to 27 the wording is the same, but for ``code``: gunicorn 23 says so for a signal that dumped core, or
    has no name, and means the status that ``waitpid`` gave.
    """

    def __init__(self) -> None:
        self.messages: Counter[str] = Counter()
        """Messages by level."""
        self.stopping = False
        """The server is shutting down."""
        self.listening = False
        """gunicorn's messages get here: an end without one was an exit with code 0."""
        self._ends: dict[int, tuple[float, str | int]] = {}
        self._lock = new_reentrant_lock()

    def count(self, level: str) -> None:
        """Counts a message. In any thread, and in signal handlers."""
        with self._lock:
            self.messages[level] += 1

    def listen(self, text: object, args: Any) -> None:
        """Takes note of a message of gunicorn's own, not yet formatted. In any thread, and in signal handlers."""
        self.listening = True
        if isinstance(text, str) and text.startswith(("Worker (pid:", "Handling signal:", "Unhandled exception in")):
            self._listen(text % args if args else text)

    def killed(self, pid: int) -> None:
        """Notes that this process was sent SIGKILL, of which gunicorn has logged nothing."""
        self._ends[pid] = time.monotonic(), "SIGKILL"

    def take(self, pid: object, since: float = 0.0) -> str | int | None:
        """How this process ended, once: the name of the signal, or the exit code; None if nothing was logged of it.

        Args:
            pid: of the process.
            since: monotonic seconds at which it began; what was logged of that pid before was of another one.
        """
        when, end = self._ends.pop(pid, (0.0, None)) if isinstance(pid, int) else (0.0, None)
        return end if when >= since else None

    def _listen(self, text: str) -> None:
        if text.startswith(_STOPPING):
            self.stopping = True
        found = _END.match(text)
        if found is None:
            return
        pid, name, status, code = found.groups()
        if status:
            name = _signal_name(int(status) & 0x7F)
        with self._lock:
            self._ends.pop(int(pid), None)  # it is to be the youngest
            if len(self._ends) >= MAX_ENDS:
                del self._ends[next(iter(self._ends))]
            self._ends[int(pid)] = time.monotonic(), name or int(code)
        if code and int(code) in _BOOT_EXITS:
            self.stopping = True


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
