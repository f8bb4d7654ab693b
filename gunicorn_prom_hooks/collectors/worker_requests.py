"""Requests per live worker, each starting at zero."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from ..model.counts import WorkerCounts
from ..model.server_snapshot import ServerSnapshot
from ..shm.schema import COUNTS, DURATION_BUCKETS, DURATION_SUM, ERROR_HANDLING, FAILED, WORKER_DURATION_BUCKETS, Family
from .histogram import coarser

_WORKER = ("worker_id",)


class WorkerRequests:
    """Remembers what it last said of each live worker's busy time, so that it never goes backwards.

    A request that ends between the reading of the sums and of the in-flight table is in neither for one scrape.
    """

    def __init__(self) -> None:
        self._busy: dict[int, float] = {}
        """By serial number: under worker_label="slot" a successor has the worker_id of its predecessor."""

    def __call__(self, view: ServerSnapshot) -> Iterator[Metric]:
        """Requests, durations, failures, what is in progress."""
        requests = CounterMetricFamily("gunicorn_worker_requests", "Requests that the worker answered.", labels=_WORKER)
        durations = HistogramMetricFamily(
            "gunicorn_worker_request_duration_seconds",
            "Time from the parsed request to the end of the response.",
            labels=_WORKER,
        )
        busy = CounterMetricFamily(
            "gunicorn_worker_busy_seconds",
            "Time that requests took, those in progress included; with several at a time, the sum over them.",
            labels=_WORKER,
        )
        in_progress = GaugeMetricFamily(
            "gunicorn_worker_requests_in_progress", "Requests that the worker is at.", labels=_WORKER
        )
        oldest = GaugeMetricFamily(
            "gunicorn_worker_oldest_request_seconds",
            "Age of the oldest request in progress, 0 if there is none; of requests beyond 128, their mean age.",
            labels=_WORKER,
        )
        self._busy = {
            worker.serial: self._busy_seconds(view, worker.serial, view.counts[worker.worker_id])
            for worker in view.workers
        }
        for worker in view.workers:
            counts = view.counts[worker.worker_id]
            labels = (worker.worker_id,)
            buckets = counts.requests[COUNTS]
            requests.add_metric(labels, sum(buckets))
            durations.add_metric(
                labels,
                coarser(DURATION_BUCKETS, buckets, WORKER_DURATION_BUCKETS),
                counts.requests[DURATION_SUM],
            )
            busy.add_metric(labels, self._busy[worker.serial])
            in_progress.add_metric(labels, counts.in_progress)
            oldest.add_metric(labels, _oldest_seconds(view, counts))
        yield from (requests, durations, busy, in_progress, oldest)
        yield _by_labels(
            view, FAILED, "gunicorn_worker_failed_requests", "Requests that ended with an exception or a 5xx."
        )
        yield _by_labels(
            view,
            ERROR_HANDLING,
            "gunicorn_worker_error_handling",
            "Errors that reached gunicorn's own error handling, malformed requests included.",
        )

    def _busy_seconds(self, view: ServerSnapshot, serial: int, counts: WorkerCounts) -> float:
        running = sum(max(0.0, view.clock - request.start) for request in counts.in_flight)
        running += counts.untracked.seconds(view.clock)
        return max(self._busy.get(serial, 0.0), counts.requests[DURATION_SUM] + running)


def _oldest_seconds(view: ServerSnapshot, counts: WorkerCounts) -> float:
    """Return the age of the oldest request that is known; of untracked ones, at least one is as old as their mean."""
    ages = [0.0, *(view.clock - request.start for request in counts.in_flight)]
    if counts.untracked.number:
        ages.append(counts.untracked.seconds(view.clock) / counts.untracked.number)
    return max(ages)


def _by_labels(view: ServerSnapshot, family: Family, name: str, documentation: str) -> Metric:
    metric = CounterMetricFamily(name, documentation, labels=("worker_id", *family.labels))
    for worker_id, counts in view.counts.items():
        for labels, cells in counts.tally.series(family.number).items():
            metric.add_metric((worker_id, *labels), cells[0])
    return metric
