"""Never harm the server: a failure of ours is logged at a bounded rate, counted, and that is all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

LOG_EVERY_SECONDS = 60.0


class Log(Protocol):
    """The part of gunicorn's logger that we use."""

    def error(self, msg: str, *args: object, **kwargs: object) -> None:
        """Logs at level error."""


class ErrorReporter:
    """Where our own failures end. One per process, handed to whatever may fail.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}
        self.log: Log | None = None
        """gunicorn's logger, once there is one."""
        self.counts: Counter[str] = Counter()
        """Failures by where they happened."""
        self.publish: Callable[[str], None] | None = None
        """In a worker: counts a failure in the slot, for the master to see."""

    def report(self, where: str) -> None:
        """Books the exception being handled. Never raises. ``where`` is one of a fixed few names."""
        try:
            self.counts[where] += 1
            now = self._clock()
            last = self._last.get(where)
            if self.log is not None and (last is None or now - last >= LOG_EVERY_SECONDS):
                self._last[where] = now
                self.log.error("gunicorn_prom_hooks: %s failed; the server goes on", where, exc_info=True)
        except Exception:  # noqa: BLE001, S110 - nothing of ours may reach gunicorn, a failing log least of all
            pass
        try:
            if self.publish is not None:
                self.publish(where)
        except Exception:  # noqa: BLE001, S110 - nor may a slot that is broken
            pass
