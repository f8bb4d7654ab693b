"""Requests over all workers, past and present."""

from __future__ import annotations

import operator
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from ..model.server_snapshot import ServerSnapshot
from ..shm.schema import (
    BUCKETS,
    COUNTS,
    DURATION_BUCKETS,
    DURATION_SUM,
    FAILED,
    INVALID,
    QUEUE,
    REQUEST_SIZE_SUM,
    REQUESTS,
    RESPONSE_SIZE_SUM,
    SIZE_BUCKETS,
    UNKNOWN_SIZE,
    size_class,
)
from . import histogram
from .histogram import cumulative


class _Sums:
    """The histograms of one (method, endpoint)."""

    def __init__(self) -> None:
        self.durations = [0.0] * BUCKETS
        self.seconds = 0.0
        self.sizes = {"request": [0.0] * (len(SIZE_BUCKETS) + 1), "response": [0.0] * (len(SIZE_BUCKETS) + 1)}
        self.bytes = {"request": 0.0, "response": 0.0}

    def add(self, cells: list[float], count: float, size_classes: dict[str, str]) -> None:
        self.durations = list(map(operator.add, self.durations, cells[COUNTS]))
        self.seconds += cells[DURATION_SUM]
        self.bytes["request"] += cells[REQUEST_SIZE_SUM]
        self.bytes["response"] += cells[RESPONSE_SIZE_SUM]
        for direction, label in size_classes.items():
            number = size_class(label)
            if number != UNKNOWN_SIZE:
                self.sizes[direction][number] += count


def collect(view: ServerSnapshot) -> Iterator[Metric]:
    """Requests, durations, sizes, failures."""
    statuses: dict[tuple[str, str, str], float] = {}
    endpoints: dict[tuple[str, str], _Sums] = {}
    for (method, endpoint, status, request_size, response_size), cells in view.totals.series(REQUESTS.number).items():
        key = method, endpoint, status
        count = sum(cells[COUNTS])
        statuses[key] = statuses.get(key, 0.0) + count
        sums = endpoints.get((method, endpoint))
        if sums is None:
            sums = endpoints[method, endpoint] = _Sums()
        sums.add(cells, count, {"request": request_size, "response": response_size})

    requests = CounterMetricFamily("gunicorn_requests", "Requests answered.", labels=("method", "endpoint", "status"))
    for key, count in statuses.items():
        requests.add_metric(key, count)
    yield requests

    durations = HistogramMetricFamily(
        "gunicorn_request_duration_seconds",
        "Time from the parsed request to the end of the response.",
        labels=("method", "endpoint"),
    )
    named = [({"method": method, "endpoint": endpoint}, sums) for (method, endpoint), sums in endpoints.items()]
    for labels, sums in named:
        histogram.add(durations, labels, cumulative(DURATION_BUCKETS, sums.durations), sums.seconds)
    yield durations

    for direction in ("request", "response"):
        sizes = HistogramMetricFamily(
            f"gunicorn_{direction}_size_bytes", f"Size of the {direction} body.", labels=("method", "endpoint")
        )
        for labels, sums in named:
            histogram.add(sizes, labels, cumulative(SIZE_BUCKETS, sums.sizes[direction]), sums.bytes[direction])
        yield sizes

    failed = CounterMetricFamily(
        "gunicorn_failed_requests",
        "Requests that ended with an exception or were answered with a 5xx.",
        labels=FAILED.labels,
    )
    for failure, cells in view.totals.series(FAILED.number).items():
        failed.add_metric(failure, cells[0])
    yield failed

    invalid = CounterMetricFamily(
        "gunicorn_invalid_requests", "Requests that gunicorn refused as malformed.", labels=INVALID.labels
    )
    for refusal, cells in view.totals.series(INVALID.number).items():
        invalid.add_metric(refusal, cells[0])
    yield invalid

    queue = HistogramMetricFamily(
        "gunicorn_request_queue_seconds", "Time from when a proxy passed the request on to its start in a worker."
    )
    for _, cells in view.totals.series(QUEUE.number).items():
        queue.add_metric((), cumulative(DURATION_BUCKETS, cells[1:]), cells[0])
    yield queue

    if view.capacity is not None:
        yield GaugeMetricFamily(
            "gunicorn_requests_capacity",
            "Requests that the live workers can serve at a time. Absent where nothing limits them.",
            value=view.capacity,
        )
    yield GaugeMetricFamily(
        "gunicorn_requests_in_progress",
        "Requests that workers are at.",
        value=sum(counts.in_progress for counts in view.counts.values()),
    )
