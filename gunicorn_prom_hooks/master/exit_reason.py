"""The ledger of deaths: why workers ended, and which requests they took with them."""

from __future__ import annotations

import signal
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from ..model.exits import ExitReason, ExitRecord, ExitStatsSnapshot, Histogram
from ..shm.layout import CAUSE_MAX_REQUESTS, CAUSE_RELOADER, CAUSE_SIGNAL, CAUSE_UNCOUNTED, CAUSE_UNKNOWN
from ..shm.schema import OTHER

BOOT_BUCKETS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
LIFETIME_BUCKETS: Final = (1.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 6 * 3600.0, 86400.0, 7 * 86400.0)
"""Upper bounds in seconds."""

_COARSE: Final = {
    ExitReason.MAX_REQUESTS: "restart",
    ExitReason.RELOAD: "restart",
    ExitReason.SCALE_DOWN: "restart",
    ExitReason.SHUTDOWN: "restart",
    ExitReason.TIMEOUT: "timeout",
}
_USUAL: Final = (
    (ExitReason.MAX_REQUESTS, "0"),
    (ExitReason.RELOAD, "0"),
    (ExitReason.SCALE_DOWN, "0"),
    (ExitReason.SHUTDOWN, "0"),
    (ExitReason.SHUTDOWN, "SIGKILL"),
    (ExitReason.TIMEOUT, "SIGABRT"),
    (ExitReason.TIMEOUT, "SIGKILL"),
    (ExitReason.OOM, "SIGKILL"),
    (ExitReason.ERROR, "1"),
    (ExitReason.BOOT, "1"),
    (ExitReason.SIGNAL, "SIGKILL"),
    (ExitReason.SIGNAL, "SIGSEGV"),
    (ExitReason.SIGNAL, "SIGTERM"),
)
"""There from the beginning: Prometheus sees no increase in a series that begins with 1."""
MAX_NEWS: Final = 20
MAX_ROUTINE: Final = 5
"""Deaths that are remembered one by one: so many that are news, and so many ordinary ones."""
MAX_REQUESTS: Final = 10
"""Requests that are remembered of a death, the oldest ones."""
_ASKED: Final = ("SIGTERM", "SIGINT", "SIGQUIT")
"""The signals with which gunicorn asks a worker to leave."""


@dataclass(frozen=True)
class Death:
    """What the master knows of the end of a worker.

    Attributes:
        end: name of the signal that killed it, or its exit code; None if nobody has told.
        aborted: gunicorn ran out of patience with it.
        booted: it had loaded the application.
        orderly: it ran gunicorn's ``worker_exit``.
        cause: why it left, if it was orderly: one of the layout's ``CAUSE_`` numbers.
        told: why the master wanted it to leave: reload, scale_down or shutdown; empty if it did not.
        seconds: how long it lived.
    """

    end: str | int | None
    aborted: bool = False
    booted: bool = True
    orderly: bool = False
    cause: float = CAUSE_UNKNOWN
    stop_reason: ExitReason | None = None
    seconds: float = 0.0


def classify_exit(death: Death, oom: Callable[[], bool]) -> tuple[ExitReason, str]:
    """Reason and detail of an end, the detail being a signal's name or an exit code.

    Args:
        death: what is known.
        oom: whether a SIGKILL was the kernel's, for want of memory; asked only when there was one.
    """
    if death.aborted:
        # On SIGABRT gunicorn's sync worker answers the request and exits with 0, the others exit with 1.
        return ExitReason.TIMEOUT, death.end if isinstance(death.end, str) else "SIGABRT"
    if isinstance(death.end, str):
        return _killed(death.end, death.stop_reason, oom)
    detail = "unknown" if death.end is None else str(death.end)
    if death.end == 0 and death.orderly and death.cause == CAUSE_MAX_REQUESTS:
        reason = ExitReason.MAX_REQUESTS
    elif death.end == 0 and death.orderly and death.stop_reason:
        reason = death.stop_reason
    elif death.end == 0 and death.orderly and death.cause == CAUSE_UNCOUNTED:
        reason = ExitReason.MAX_REQUESTS
    elif death.end == 0 and death.orderly and death.cause == CAUSE_RELOADER:
        reason = ExitReason.RELOAD
    elif death.end == 0 and death.orderly and death.cause >= CAUSE_SIGNAL:
        reason, detail = ExitReason.SIGNAL, _signal_name(death.cause - CAUSE_SIGNAL)
    else:
        reason = ExitReason.ERROR if death.booted else ExitReason.BOOT
    return reason, detail


def _killed(name: str, stop_reason: ExitReason | None, oom: Callable[[], bool]) -> tuple[ExitReason, str]:
    if name == "SIGKILL":
        if oom():
            return ExitReason.OOM, name
        # gunicorn itself kills what has not left by the end of a shutdown.
        return (stop_reason if stop_reason is ExitReason.SHUTDOWN else ExitReason.SIGNAL), name
    return (stop_reason if stop_reason and name in _ASKED else ExitReason.SIGNAL), name


def _signal_name(number: float) -> str:
    try:
        return signal.Signals(int(number)).name
    except (ValueError, OverflowError):  # something else has written into the slot
        return "unknown"


class ExitStats:
    """Adds up deaths. Its bounds are those of its labels: reasons, signals and exit codes, capped endpoints.

    Args:
        oom: see ``verdict``.
        endpoint: from a request's path to a label value out of a bounded number.
    """

    def __init__(self, oom: Callable[[], bool], endpoint: Callable[[str], str]) -> None:
        self._oom = oom
        self._endpoint = endpoint
        self.exits: dict[tuple[ExitReason, str], int] = Counter(dict.fromkeys(_USUAL, 0))
        """By reason and detail."""
        self.restarts = {"restart": 0, "timeout": 0, "error": 0}
        """The same, coarser."""
        self.killed: dict[tuple[str, str, ExitReason], int] = Counter()
        """Requests that went down with their worker, by method, endpoint and reason."""
        self.boots = Histogram(BOOT_BUCKETS)
        self.lifetimes = Histogram(LIFETIME_BUCKETS)
        self._news: deque[ExitRecord] = deque(maxlen=MAX_NEWS)
        self._routine: deque[ExitRecord] = deque(maxlen=MAX_ROUTINE)

    @property
    def latest(self) -> list[ExitRecord]:
        """The latest deaths, the last one first."""
        return sorted((*self._news, *self._routine), key=lambda record: record.clock, reverse=True)

    def copy(self) -> ExitStatsSnapshot:
        """The books as they are now."""
        return ExitStatsSnapshot(
            dict(self.exits),
            dict(self.restarts),
            dict(self.killed),
            self.boots.copy(),
            self.lifetimes.copy(),
            self.latest,
        )

    def remember(self, record: ExitRecord, *, news: bool) -> None:
        """Keeps this death for a while. However many ordinary ones follow, they do not push out one that is news."""
        cut = replace(
            record,
            requests=tuple(record.requests[:MAX_REQUESTS]),
            others=record.others + max(0, len(record.requests) - MAX_REQUESTS),
        )
        (self._news if news else self._routine).append(cut)

    def book(self, death: Death, requests: Iterable[tuple[str, str]], unnamed: int = 0) -> tuple[ExitReason, str]:
        """Books the end of a worker; its reason and detail.

        Args:
            death: what is known of it.
            requests: method and path of each request that it died on.
            unnamed: how many more there were.
        """
        reason, detail = classify_exit(death, self._oom)
        self.exits[reason, detail] += 1
        self.restarts[_COARSE.get(reason, "restart" if death.orderly and death.end == 0 else "error")] += 1
        self.lifetimes.observe(death.seconds)
        for method, path in requests:
            self.killed[method, self._endpoint(path), reason] += 1
        if unnamed:
            self.killed[OTHER, OTHER, reason] += unnamed
        return reason, detail
