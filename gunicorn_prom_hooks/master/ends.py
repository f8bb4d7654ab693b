"""What gunicorn's log says of how processes ended and why: the master's hooks are not told."""

from __future__ import annotations

import re
import signal
from collections import Counter
from typing import Any, Final

from ..native import new_reentrant_lock

MAX_ENDS: Final = 4096
"""Ends that nobody asks for; a worker's is asked for as soon as it is booked."""
_END: Final = re.compile(
    r"Worker \(pid:(\d+)\) (?:was sent (?:(SIG\w+|signal \d+)|code (\d+))!|exited with code (\d+))"
)
_BOOT_EXITS: Final = (3, 4)
"""gunicorn's Arbiter.WORKER_BOOT_ERROR and APP_LOAD_ERROR: having logged one of these, it shuts down."""
_STOPPING: Final = ("Handling signal: term", "Handling signal: int", "Handling signal: quit", "Unhandled exception in")


class Ends:
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
        self._ends: dict[int, str | int] = {}
        self._lock = new_reentrant_lock()

    def message(self, level: str, text: object, args: Any) -> None:
        """Takes note of a message, its text not yet formatted. In any thread, and in signal handlers."""
        with self._lock:
            self.messages[level] += 1
        if isinstance(text, str) and text.startswith(("Worker (pid:", "Handling signal:", "Unhandled exception in")):
            self._listen(text % args if args else text)

    def killed(self, pid: int) -> None:
        """Notes that this process was sent SIGKILL, of which gunicorn has logged nothing."""
        self._ends.setdefault(pid, "SIGKILL")

    def take(self, pid: object) -> str | int | None:
        """How this process ended, once: the name of the signal, or the exit code; None if nothing was logged of it."""
        return self._ends.pop(pid, None) if isinstance(pid, int) else None

    def _listen(self, text: str) -> None:
        if text.startswith(_STOPPING):
            self.stopping = True
        found = _END.match(text)
        if found is None:
            return
        pid, name, status, code = found.groups()
        if status:
            name = _signal_name(int(status) & 0x7F)
        if len(self._ends) >= MAX_ENDS:
            self._ends.clear()
        self._ends[int(pid)] = name or int(code)
        if code and int(code) in _BOOT_EXITS:
            self.stopping = True


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
