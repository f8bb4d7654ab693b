"""How late the event loops of live workers are."""

from __future__ import annotations

import operator
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from ..model.server_snapshot import ServerSnapshot, WorkerSnapshot
from ..shm.schema import LAG_BUCKETS, LOOP_LAG, lag_samples
from .histogram import cumulative

_WORKER = ("worker_id",)


def blocked_seconds(view: ServerSnapshot, worker: WorkerSnapshot) -> float | None:
    """Return for how long the timer in the worker's event loop has been due; None if it has no such timer.

    The time is read after the slots are copied. A timer that has fired in between counts as not late: its sample is
    missing from one scrape, and never in it twice.
    """
    return None if worker.loop_due is None else max(0.0, view.clock - worker.loop_due)


class EventLoopLag:
    """Remembers what it last said of each live worker, so that nothing goes backwards.

    While a loop is blocked, the samples that it misses are counted above all bounds, since how late they will be is not
    known yet; the sum has what they have come to. When the loop goes on they move below some of the bounds. So no
    cumulative count ever goes down.
    """

    def __init__(self) -> None:
        self._said: dict[int, tuple[float, float]] = {}
        """Count and sum, by serial number of the worker."""

    def __call__(self, view: ServerSnapshot) -> Iterator[Metric]:
        """Yield the histogram of lags, and for how long each loop has been blocked."""
        lags = HistogramMetricFamily(
            "gunicorn_worker_event_loop_lag_seconds",
            "Time by which a timer in the worker's event loop was late; two samples a second.",
            labels=_WORKER,
        )
        blocked = GaugeMetricFamily(
            "gunicorn_worker_event_loop_blocked_seconds",
            "Time for which the timer in the worker's event loop has been due; 0 if it is not.",
            labels=_WORKER,
        )
        said = {}
        for worker in view.workers:
            late = blocked_seconds(view, worker)
            if late is None:
                continue
            cells = [0.0] * LOOP_LAG.cells
            for found in view.counts[worker.worker_id].tally.series(LOOP_LAG.number).values():
                cells = list(map(operator.add, cells, found))
            missed, _, seconds = lag_samples(late) if late else (0, 0.0, 0.0)
            count, total = sum(cells[1:]) + missed, cells[0] + seconds
            before = self._said.get(worker.serial, (0.0, 0.0))
            said[worker.serial] = count, total = max(count, before[0]), max(total, before[1])
            buckets = [*cumulative(LAG_BUCKETS, cells[1:])[:-1], ("+Inf", count)]
            lags.add_metric((worker.worker_id,), buckets, total)
            blocked.add_metric((worker.worker_id,), late)
        self._said = said
        if said:
            yield from (lags, blocked)
