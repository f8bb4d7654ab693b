"""Requests and websockets over all workers, past and present."""

from __future__ import annotations

import operator
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from ..model.server_snapshot import ServerSnapshot
from ..shm.schema import (
    COUNTS,
    DURATION_SUM,
    FAILED,
    INVALID,
    OTHER,
    QUEUE,
    REQUEST_SIZE_SUM,
    REQUESTS,
    RESPONSE_SIZE_SUM,
    SIZE_BUCKETS,
    UNKNOWN_SIZE,
    WEBSOCKETS,
    Family,
    size_class,
)
from . import histogram
from .histogram import cumulative, published

_OPENED, _CLOSED = 0, 1
NO_REQUESTS: Final = (OTHER, OTHER, OTHER)
"""Labels of a series that is there from the start: a sum over a family without series would begin above zero."""

Key = tuple[str, str]
"""Method and endpoint."""


@dataclass
class Sizes:
    """Sizes of bodies. ``counts`` is per bucket of ``SIZE_BUCKETS``, not cumulative, the last +Inf."""

    counts: list[float] = field(default_factory=lambda: [0.0] * (len(SIZE_BUCKETS) + 1))
    total_bytes: float = 0.0

    def add(self, label: str, count: float, total_bytes: float) -> None:
        """Add requests of the size class with this label. Those of unknown size are in no bucket and no sum."""
        number = size_class(label)
        if number != UNKNOWN_SIZE:
            self.counts[number] += count
            self.total_bytes += total_bytes


@dataclass
class EndpointRequests:
    """Requests of one method to one endpoint.

    Attributes:
        durations: requests per duration bucket, not cumulative, the last +Inf.
        since: unix time in seconds at which the oldest series began; 0.0: with the server.
        seconds: sum of the durations.
        request: sizes of the request bodies.
        response: sizes of the response bodies.
    """

    durations: list[float]
    since: float
    seconds: float = 0.0
    request: Sizes = field(default_factory=Sizes)
    response: Sizes = field(default_factory=Sizes)

    @property
    def number(self) -> float:
        """Number of requests."""
        return sum(self.durations)


class RequestTotals(NamedTuple):
    """Requests of all workers, past and present.

    Attributes:
        by_status: number of requests by method, endpoint and status.
        by_endpoint: durations and sizes by method and endpoint.
        since: unix times in seconds at which the series of ``by_status`` began; 0.0: with the server.
    """

    by_status: Mapping[tuple[str, str, str], float]
    by_endpoint: Mapping[Key, EndpointRequests]
    since: Mapping[tuple[str, str, str], float]


def read_requests(snapshot: ServerSnapshot) -> RequestTotals:
    """Return the requests of all workers, past and present."""
    statuses: dict[tuple[str, str, str], float] = {}
    endpoints: dict[Key, EndpointRequests] = {}
    births: dict[tuple[str, str, str], float] = {}
    series = snapshot.totals.series(REQUESTS.number)
    for row, cells in series.items():
        method, endpoint, status, request_size, response_size = row
        count, since = sum(cells[COUNTS]), snapshot.totals.since(REQUESTS.number, row)
        key = method, endpoint, status
        statuses[key] = statuses.get(key, 0.0) + count
        births[key] = min(since, births.get(key, since))
        sums = endpoints.get((method, endpoint))
        if sums is None:
            sums = endpoints[method, endpoint] = EndpointRequests([0.0] * (len(snapshot.buckets.bounds) + 1), since)
        sums.since = min(sums.since, since)
        sums.durations = list(map(operator.add, sums.durations, cells[COUNTS]))
        sums.seconds += cells[DURATION_SUM]
        sums.request.add(request_size, count, cells[REQUEST_SIZE_SUM])
        sums.response.add(response_size, count, cells[RESPONSE_SIZE_SUM])
    return RequestTotals(statuses, endpoints, births)


def read_failures(snapshot: ServerSnapshot) -> Mapping[Key, float]:
    """Return the number of failed requests of all workers, past and present, by method and endpoint."""
    failures: dict[Key, float] = defaultdict(float)
    for (method, endpoint, _), cells in snapshot.totals.series(FAILED.number).items():
        failures[method, endpoint] += cells[0]
    return failures


def read_in_progress(snapshot: ServerSnapshot) -> int:
    """Return the number of requests that live workers are processing."""
    return sum(counts.in_progress for counts in snapshot.counts.values())


def collect(snapshot: ServerSnapshot) -> Iterator[Metric]:
    """Yield requests, durations, sizes, failures, queue times and capacity, over all workers."""
    totals = read_requests(snapshot)
    requests = CounterMetricFamily("gunicorn_requests", "Requests answered.", labels=("method", "endpoint", "status"))
    for key, count in {NO_REQUESTS: 0.0, **totals.by_status}.items():
        requests.add_metric(key, count, snapshot.created(totals.since.get(key, 0.0)))
    yield requests

    labeled = [
        ({"method": method, "endpoint": endpoint}, found, snapshot.created(found.since))
        for (method, endpoint), found in totals.by_endpoint.items()
    ]
    durations = HistogramMetricFamily(
        "gunicorn_request_duration_seconds",
        "Time from the parsed request to the end of the response, in seconds.",
        labels=("method", "endpoint"),
    )
    for labels, sums, created in labeled:
        histogram.add(durations, labels, published(snapshot.buckets, sums.durations), sums.seconds, created)
    yield durations

    for direction in ("request", "response") if snapshot.options.size_histograms else ():
        family = HistogramMetricFamily(
            f"gunicorn_{direction}_size_bytes",
            f"Size of the {direction} body, in bytes.",
            labels=("method", "endpoint"),
        )
        for labels, sums, created in labeled:
            sizes = sums.request if direction == "request" else sums.response
            histogram.add(family, labels, cumulative(SIZE_BUCKETS, sizes.counts), sizes.total_bytes, created)
        yield family

    yield _totals(snapshot, FAILED, "gunicorn_failed_requests", "Requests with an exception or a 5xx response.")
    yield _totals(snapshot, INVALID, "gunicorn_invalid_requests", "Requests refused by gunicorn as malformed.")

    queue = HistogramMetricFamily(
        "gunicorn_request_queue_seconds",
        "Time from the proxy's timestamp to the start of the request in a worker, in seconds.",
    )
    for cells in snapshot.totals.series(QUEUE.number).values():
        histogram.add(queue, {}, published(snapshot.buckets, cells[1:]), cells[0], snapshot.created())
    yield queue

    if snapshot.capacity is not None:
        yield GaugeMetricFamily(
            "gunicorn_requests_capacity",
            "Requests that all live workers can process at a time. Absent if nothing limits them.",
            value=snapshot.capacity,
        )
    yield GaugeMetricFamily(
        "gunicorn_requests_in_progress", "Requests being processed.", value=read_in_progress(snapshot)
    )


def collect_websockets(snapshot: ServerSnapshot) -> Iterator[Metric]:
    """Yield the websockets opened, and those that are open in live workers."""
    opened = CounterMetricFamily("gunicorn_websockets", "Websockets opened.", labels=WEBSOCKETS.labels)
    for labels, cells in {(OTHER,): (0.0, 0.0), **snapshot.totals.series(WEBSOCKETS.number)}.items():
        since = snapshot.totals.since(WEBSOCKETS.number, labels)
        opened.add_metric(labels, cells[_OPENED], snapshot.created(since))
    yield opened

    # Websockets of a killed worker were never counted as closed, so only live workers are read.
    still_open: Counter[tuple[str, ...]] = Counter()
    for counts in snapshot.counts.values():
        for labels, cells in counts.tally.series(WEBSOCKETS.number).items():
            still_open[labels] += int(cells[_OPENED] - cells[_CLOSED])
    in_progress = GaugeMetricFamily("gunicorn_websockets_in_progress", "Websockets open.", labels=WEBSOCKETS.labels)
    for labels in snapshot.totals.series(WEBSOCKETS.number):
        in_progress.add_metric(labels, still_open[labels])
    yield in_progress


def _totals(snapshot: ServerSnapshot, family: Family, name: str, documentation: str) -> Metric:
    metric = CounterMetricFamily(name, documentation, labels=family.labels)
    none = (OTHER,) * len(family.labels)
    for labels, cells in {none: [0.0], **snapshot.totals.series(family.number)}.items():
        metric.add_metric(labels, cells[0], snapshot.created(snapshot.totals.since(family.number, labels)))
    return metric
