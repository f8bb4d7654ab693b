"""Failures of this package: counted, logged at a bounded rate, and never raised into the server."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

LOG_EVERY_SECONDS = 60.0


class Log(Protocol):
    """The part of gunicorn's logger that is used here."""

    def error(self, msg: str, *args: object, **kwargs: object) -> None:
        """Log a message at level error."""


class ErrorReporter:
    """Reporter of this package's own failures. One per process, handed to every component that may fail.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}
        self.log: Log | None = None
        """gunicorn's logger; None until gunicorn has made it."""
        self._counts: Counter[str] = Counter()
        self.count_noted: Callable[[], None] | None = None
        """In the master: counts the failures that other processes have noted."""
        self.since: dict[str, float] = {}
        """Unix time in seconds of the first failure of each component."""
        self.publish: Callable[[str], None] | None = None
        """In a worker: counts a failure in the slot, which the master reads."""
        self.unpublished: Counter[str] = Counter()
        """Failures while ``publish`` is None."""

    @property
    def counts(self) -> Counter[str]:
        """Number of failures by component."""
        if self.count_noted is not None:
            self.count_noted()
        return self._counts

    def count(self, where: str, number: int = 1) -> None:
        """Count failures that have their own line in the log. ``where`` is one of a few fixed names."""
        self._counts[where] += number
        self.since.setdefault(where, time.time())

    def report(self, where: str) -> None:
        """Count and log the exception being handled. Never raises. ``where`` is one of a few fixed names."""
        try:
            self.count(where)
            if self._is_due(where) and self.log is not None:
                self.log.error("gunicorn_prom_hooks: %s failed; the server goes on", where, exc_info=True)
        except Exception:  # noqa: BLE001, S110 - no failure of this package may reach gunicorn, nor one of its log
            pass
        try:
            if self.publish is not None:
                self.publish(where)
            else:
                self.unpublished[where] += 1
        except Exception:  # noqa: BLE001, S110 - nor may a failure of a broken slot
            pass

    def report_of(self, where: str, pid: int, text: str) -> None:
        """Log a failure of another process, already counted. In the master.

        Args:
            where: one of a few fixed names.
            pid: of the process.
            text: its traceback.
        """
        if self._is_due(where) and self.log is not None:
            self.log.error("gunicorn_prom_hooks: %s failed; the server goes on (process %d)\n%s", where, pid, text)

    def _is_due(self, where: str) -> bool:
        """Return whether a line about this component is to be logged now, which it then is."""
        now = self._clock()
        last = self._last.get(where)
        if self.log is None or (last is not None and now - last < LOG_EVERY_SECONDS):
            return False
        self._last[where] = now
        return True

    def publish_earlier(self) -> None:
        """Publish the failures of this process from before ``publish`` was set."""
        while self.publish is not None and self.unpublished:
            where, count = self.unpublished.popitem()
            for _ in range(count):
                self.publish(where)
