"""Worker exits: the reasons, the records, and the counts by reason."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from .counts import InFlightRequest


class ExitReason(str, Enum):
    """Why a worker exited; the label ``reason``."""

    MAX_REQUESTS = "max_requests"
    RELOAD = "reload"
    SCALE_DOWN = "scale_down"
    SHUTDOWN = "shutdown"
    TIMEOUT = "timeout"
    OOM = "oom"
    SIGNAL = "signal"
    ERROR = "error"
    BOOT = "boot"

    @property
    def is_expected(self) -> bool:
        """Whether the operator or the configuration asked for the exit."""
        return self in _EXPECTED

    def __str__(self) -> str:
        return self.value


_EXPECTED = frozenset((ExitReason.MAX_REQUESTS, ExitReason.RELOAD, ExitReason.SCALE_DOWN, ExitReason.SHUTDOWN))


class Histogram:
    """Durations in seconds, counted by bucket.

    Attributes:
        bounds: upper bounds of the buckets in seconds.
        counts: observations per bucket, not cumulative, with one more for +Inf.
        seconds: sum of the observations.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0.0] * (len(bounds) + 1)
        self.seconds = 0.0

    def copy(self) -> Histogram:
        """Return a copy that later observations do not change."""
        copy = Histogram(self.bounds)
        copy.counts, copy.seconds = list(self.counts), self.seconds
        return copy

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.bounds, seconds)] += 1.0
        self.seconds += seconds


@dataclass(frozen=True)
class ExitRecord:
    """One worker exit.

    Attributes:
        when: unix time in seconds.
        clock: the same moment in monotonic seconds, the clock of ``InFlightRequest.start``.
        worker_id: the label.
        pid: of the worker; None if it is not known.
        reason: why the worker exited.
        detail: name of a signal, or exit code.
        requests: those in progress at the exit, oldest first.
        others: how many more were in progress.
    """

    when: float
    clock: float
    worker_id: str
    pid: int | None
    reason: ExitReason
    detail: str
    requests: Sequence[InFlightRequest]
    others: int


@dataclass(frozen=True)
class ExitStatsSnapshot:
    """A copy of what the master counts about worker exits.

    Attributes:
        exits: by reason and detail.
        restarts: by the coarse reasons restart, timeout and error.
        killed: requests in progress at an exit, by method, endpoint and reason.
        boots: times from the fork to the loaded application.
        lifetimes: times from the fork to the exit.
        latest: the latest exits, the newest first.
        since: unix times in seconds of the first exit and the first killed request, by the keys of ``exits`` and
            ``killed``.
    """

    exits: Mapping[tuple[ExitReason, str], int]
    restarts: Mapping[str, int]
    killed: Mapping[tuple[str, str, ExitReason], int]
    boots: Histogram
    lifetimes: Histogram
    latest: Sequence[ExitRecord]
    since: Mapping[tuple[str, ...], float]
