"""The number of series of a server, as docs/scale.md has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIXED: Final = 107
"""Series of the master and of the exporter, and those that a counter has before its first event."""
PER_LISTENER: Final = 3
PER_WORKER: Final = 31
PER_EVENT_LOOP: Final = 15
"""Further ones of a worker with an event loop: its lag."""
PER_EXITED: Final = 2
PER_HISTOGRAM: Final = 3
"""Series of a histogram beside its buckets: +Inf, sum and count."""
BUCKETS: Final = 18
SIZES: Final = 20
"""Series of an endpoint and a method for the sizes of both bodies."""


@dataclass(frozen=True)
class Size:
    """What the number of series depends on.

    Attributes:
        workers: live ones.
        pairs: of an endpoint and a method.
        statuses: triples of an endpoint, a method and a status.
        failures: triples of an endpoint, a method and an error type.
        worker_failures: the same of each worker; those that reached gunicorn's own error handling count twice.
        listeners: addresses that gunicorn listens on.
        event_loops: workers with an event loop.
        limited: whether the workers have a limit of requests at a time.
        exited: slots from which a worker has exited.
        queue: whether a proxy sends ``X-Request-Start``.
        buckets: of ``duration_buckets``.
        sizes: ``size_histograms``.
    """

    workers: int
    pairs: int
    statuses: int
    failures: int = 0
    worker_failures: int = 0
    listeners: int = 1
    event_loops: int = 0
    limited: bool = True
    exited: int = 0
    queue: bool = False
    buckets: int = BUCKETS
    sizes: bool = True

    @property
    def series(self) -> int:
        """Return the number of series on the page."""
        duration = self.buckets + PER_HISTOGRAM
        return (
            FIXED
            + PER_LISTENER * self.listeners
            + PER_WORKER * self.workers
            + PER_EVENT_LOOP * self.event_loops
            - (0 if self.limited else self.workers + 1)
            + PER_EXITED * self.exited
            + duration * self.queue
            + (duration + SIZES * self.sizes) * self.pairs
            + self.statuses
            + self.failures
            + self.worker_failures
        )
