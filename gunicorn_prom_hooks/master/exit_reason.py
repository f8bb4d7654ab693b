"""Why a worker exited, and the counts of exits by reason, with the requests that were in progress."""

from __future__ import annotations

import signal
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from .._gunicorn import STOP_SIGNALS
from ..model.exits import ExitReason, ExitRecord, ExitStatsSnapshot, Histogram
from ..paths import normalize_path
from ..shm.aggregate import EndpointCap
from ..shm.index import clean_label
from ..shm.layout import CAUSE_MAX_REQUESTS, CAUSE_RELOADER, CAUSE_SIGNAL, CAUSE_UNCOUNTED, CAUSE_UNKNOWN
from ..shm.schema import OTHER

BOOT_BUCKETS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
LIFETIME_BUCKETS: Final = (1.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 6 * 3600.0, 86400.0, 7 * 86400.0)
"""Upper bounds in seconds."""

_RESTART_REASONS: Final = {
    ExitReason.MAX_REQUESTS: "restart",
    ExitReason.RELOAD: "restart",
    ExitReason.SCALE_DOWN: "restart",
    ExitReason.SHUTDOWN: "restart",
    ExitReason.TIMEOUT: "timeout",
}
_INITIAL_SERIES: Final = (
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
"""Series that exist from the start. Prometheus sees no increase in a series that begins at 1."""
NONE_KILLED: Final = tuple((OTHER, OTHER, reason) for reason in ExitReason)
"""Labels of the series of killed requests that exist from the start."""
MAX_NOTABLE: Final = 20
MAX_ROUTINE: Final = 5
"""Records that are kept of notable exits, and of routine ones."""
MAX_REQUESTS: Final = 10
"""Requests that are kept in a record, the oldest ones."""


class OomWatcher(Protocol):
    """The part of ``OomKills`` that the classification needs."""

    def claim(self) -> bool:
        """Return whether the kernel has counted an OOM kill that is not yet claimed, and claim it."""


@dataclass(frozen=True)
class ExitFacts:
    """What the master knows about a worker exit.

    Attributes:
        status: name of the signal that killed the worker, or its exit code; None if neither is known.
        aborted: gunicorn sent SIGABRT after a timeout.
        booted: the worker had loaded the application.
        orderly: the worker ran gunicorn's ``worker_exit``.
        cause: why an orderly exit happened: one of the layout's ``CAUSE_`` numbers.
        stop_reason: why the master wanted it to exit: RELOAD, SCALE_DOWN or SHUTDOWN; None if it did not.
        lifetime: seconds from the fork to the exit.
    """

    status: str | int | None
    aborted: bool = False
    booted: bool = True
    orderly: bool = False
    cause: float = CAUSE_UNKNOWN
    stop_reason: ExitReason | None = None
    lifetime: float = 0.0


def classify_exit(facts: ExitFacts, oom: OomWatcher) -> tuple[ExitReason, str]:
    """Return reason and detail of an exit. The detail is a signal's name or an exit code.

    Args:
        facts: what is known of the exit.
        oom: decides whether a SIGKILL was an OOM kill. It is called only after a SIGKILL.
    """
    if facts.aborted:
        # On SIGABRT gunicorn's sync worker answers the request and exits with 0, the others exit with 1.
        return ExitReason.TIMEOUT, facts.status if isinstance(facts.status, str) else "SIGABRT"
    if isinstance(facts.status, str):
        return _classify_signal(facts.status, facts.stop_reason, oom)
    if facts.orderly and facts.cause == CAUSE_SIGNAL + signal.SIGABRT:
        # gunicorn's handler exits with code 1, or with 0 after the request that it has ended.
        return ExitReason.SIGNAL, "SIGABRT"
    detail = "unknown" if facts.status is None else str(facts.status)
    is_clean = facts.status == 0 and facts.orderly
    if is_clean and facts.cause == CAUSE_MAX_REQUESTS:
        reason = ExitReason.MAX_REQUESTS
    elif is_clean and facts.stop_reason:
        reason = facts.stop_reason
    elif is_clean and facts.cause == CAUSE_UNCOUNTED:
        reason = ExitReason.MAX_REQUESTS
    elif is_clean and facts.cause == CAUSE_RELOADER:
        reason = ExitReason.RELOAD
    elif is_clean and facts.cause >= CAUSE_SIGNAL:
        reason, detail = ExitReason.SIGNAL, _signal_name(facts.cause - CAUSE_SIGNAL)
    else:
        reason = ExitReason.ERROR if facts.booted else ExitReason.BOOT
    return reason, detail


def _classify_signal(name: str, stop_reason: ExitReason | None, oom: OomWatcher) -> tuple[ExitReason, str]:
    if name == "SIGKILL":
        if oom.claim():
            return ExitReason.OOM, name
        # At the end of a shutdown gunicorn kills the workers that have not exited.
        return (stop_reason if stop_reason is ExitReason.SHUTDOWN else ExitReason.SIGNAL), name
    return (stop_reason if stop_reason and name in STOP_SIGNALS else ExitReason.SIGNAL), name


def _signal_name(number: float) -> str:
    try:
        return signal.Signals(int(number)).name
    except (ValueError, OverflowError):  # something else has written into the slot
        return "unknown"


class ExitStats:
    """Counts of worker exits, bounded by their labels: reasons, signals and exit codes, capped endpoints.

    Args:
        oom: see ``classify_exit``.
        max_endpoints: number of different endpoints that killed requests may have.
    """

    def __init__(self, oom: OomWatcher, max_endpoints: int) -> None:
        self._oom = oom
        self._cap = EndpointCap(max_endpoints, {0: 0}, frozenset({OTHER}), OTHER, remember=False)
        self.exits: dict[tuple[ExitReason, str], int] = Counter(dict.fromkeys(_INITIAL_SERIES, 0))
        """By reason and detail."""
        self.restarts = {"restart": 0, "timeout": 0, "error": 0}
        """By the coarse reasons."""
        self.killed: dict[tuple[str, str, ExitReason], int] = Counter()
        """Requests in progress at an exit, by method, endpoint and reason."""
        self._since: dict[tuple[str, ...], float] = dict.fromkeys((*self.exits, *NONE_KILLED), 0.0)
        self.boots = Histogram(BOOT_BUCKETS)
        self.lifetimes = Histogram(LIFETIME_BUCKETS)
        self._notable: deque[ExitRecord] = deque(maxlen=MAX_NOTABLE)
        self._routine: deque[ExitRecord] = deque(maxlen=MAX_ROUTINE)

    @property
    def latest(self) -> list[ExitRecord]:
        """The latest exits, the newest first."""
        return sorted((*self._notable, *self._routine), key=lambda record: record.clock, reverse=True)

    def limit_endpoints(self, max_endpoints: int) -> None:
        """Apply the setting of a reload. What was counted as ``<other>`` stays so."""
        self._cap.limit = max_endpoints

    def snapshot(self) -> ExitStatsSnapshot:
        """Return a copy of the counts."""
        return ExitStatsSnapshot(
            dict(self.exits),
            dict(self.restarts),
            dict(self.killed),
            self.boots.copy(),
            self.lifetimes.copy(),
            self.latest,
            dict(self._since),
        )

    def count(
        self, facts: ExitFacts, requests: Iterable[tuple[str, str]], untracked: int = 0
    ) -> tuple[ExitReason, str]:
        """Count a worker exit; return its reason and detail.

        Args:
            facts: what is known of the exit.
            requests: method and path of each request that was in progress.
            untracked: number of further requests in progress.
        """
        reason, detail = classify_exit(facts, self._oom)
        now = time.time()
        self._since.setdefault((reason, detail), now)
        self.exits[reason, detail] += 1
        self.restarts[_RESTART_REASONS.get(reason, "restart" if facts.orderly and facts.status == 0 else "error")] += 1
        self.lifetimes.observe(facts.lifetime)
        for method, path in requests:
            killed = method, self._endpoint(path), reason
            self._since.setdefault(killed, now)
            self.killed[killed] += 1
        if untracked:
            self.killed[OTHER, OTHER, reason] += untracked
        return reason, detail

    def keep(self, record: ExitRecord, *, notable: bool) -> None:
        """Keep the record of an exit. Routine exits never displace notable ones."""
        cut = replace(
            record,
            requests=tuple(record.requests[:MAX_REQUESTS]),
            others=record.others + max(0, len(record.requests) - MAX_REQUESTS),
        )
        (self._notable if notable else self._routine).append(cut)

    def _endpoint(self, path: str) -> str:
        return self._cap(0, (clean_label(normalize_path(path)),))[0]
