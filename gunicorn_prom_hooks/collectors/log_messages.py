"""What gunicorn's error log was told, by the master and by workers."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from ..model.server_snapshot import ServerSnapshot
from ..shm.schema import LEVELS, LOG_MESSAGES


def collect(view: ServerSnapshot) -> Iterator[Metric]:
    """Messages by level."""
    messages = CounterMetricFamily(
        "gunicorn_log_messages",
        "Messages to gunicorn's error log, those of gunicorn's own below its level included, but for debug.",
        labels=LOG_MESSAGES.labels,
    )
    workers = view.totals.series(LOG_MESSAGES.number)
    for level in LEVELS:
        messages.add_metric((level,), view.messages.get(level, 0) + sum(workers.get((level,), ())))
    yield messages
