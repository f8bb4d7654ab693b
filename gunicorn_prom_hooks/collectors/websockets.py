"""Websockets of ASGI applications."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from ..model.server_snapshot import ServerSnapshot
from ..shm.schema import WEBSOCKETS

OPENED, CLOSED = 0, 1


def collect(view: ServerSnapshot) -> Iterator[Metric]:
    """How many were opened, and how many are open in live workers."""
    opened = CounterMetricFamily("gunicorn_websockets", "Websockets opened.", labels=WEBSOCKETS.labels)
    for labels, cells in view.totals.series(WEBSOCKETS.number).items():
        opened.add_metric(labels, cells[OPENED])
    yield opened

    # Those of a worker that was killed were never closed, and yet are open no more.
    still_open: Counter[tuple[str, ...]] = Counter()
    for counts in view.counts.values():
        for labels, cells in counts.tally.series(WEBSOCKETS.number).items():
            still_open[labels] += int(cells[OPENED] - cells[CLOSED])
    in_progress = GaugeMetricFamily("gunicorn_websockets_in_progress", "Websockets open.", labels=WEBSOCKETS.labels)
    for labels in view.totals.series(WEBSOCKETS.number):
        in_progress.add_metric(labels, still_open[labels])
    yield in_progress
