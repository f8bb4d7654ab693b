"""What gunicorn's log messages say about exits. gunicorn does not pass it to the hooks of the master."""

from __future__ import annotations

import signal
import time
from collections import Counter
from typing import Any, Final

from .._gunicorn import BOOT_EXIT_CODES, EXIT_MESSAGE, OBSERVED_MESSAGES, SHUTDOWN_MESSAGES
from ..concurrency import new_reentrant_lock

MAX_PENDING: Final = 4096
"""Exits that are kept until ``take``. Before version 25 gunicorn logs those of any child. The oldest are dropped."""


class ExitLogParser:
    """Reads the master's log messages: exit codes, signals, and whether the server shuts down.

    gunicorn logs every exit but one with code 0, before it calls ``child_exit``; see ``EXIT_MESSAGE``.
    """

    def __init__(self) -> None:
        self.messages: Counter[str] = Counter()
        """Messages by level."""
        self.stopping = False
        """The server is shutting down."""
        self.is_observing = False
        """gunicorn's messages arrive here: an exit without one had code 0."""
        self._pending: dict[int, tuple[float, str | int]] = {}
        """By pid: monotonic seconds of the message, and name of the signal or exit code."""
        self._lock = new_reentrant_lock()

    def count_message(self, level: str) -> None:
        """Count a message. Callable in any thread, and in signal handlers."""
        with self._lock:
            self.messages[level] += 1

    def observe(self, text: object, args: Any) -> None:
        """Read a message of gunicorn's, not yet formatted. Callable in any thread, and in signal handlers."""
        self.is_observing = True
        if isinstance(text, str) and text.startswith(OBSERVED_MESSAGES):
            self._parse(text % args if args else text)

    def add_sigkill(self, pid: int) -> None:
        """Record that a process was sent SIGKILL, which gunicorn has not logged."""
        self._pending[pid] = time.monotonic(), "SIGKILL"

    def take(self, pid: object, since: float = 0.0) -> str | int | None:
        """Remove and return how a process exited: name of the signal, or exit code; None if nothing was logged.

        Args:
            pid: of the process.
            since: monotonic seconds at which it began. An earlier message was about another process with that pid.
        """
        when, status = self._pending.pop(pid, (0.0, None)) if isinstance(pid, int) else (0.0, None)
        return status if when >= since else None

    def _parse(self, text: str) -> None:
        if text.startswith(SHUTDOWN_MESSAGES):
            self.stopping = True
        found = EXIT_MESSAGE.match(text)
        if found is None:
            return
        pid, name, wait_status, code = found.groups()
        if wait_status:
            name = _signal_name(int(wait_status) & 0x7F)
        with self._lock:
            self._pending.pop(int(pid), None)  # so that it becomes the youngest entry
            if len(self._pending) >= MAX_PENDING:
                del self._pending[next(iter(self._pending))]
            self._pending[int(pid)] = time.monotonic(), name or int(code)
        if code and int(code) in BOOT_EXIT_CODES:
            self.stopping = True


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
