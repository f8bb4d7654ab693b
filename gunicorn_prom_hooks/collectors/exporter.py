"""The exporter about itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from ..model.server_snapshot import ServerSnapshot
from ..shm.schema import EXPORTER_ERRORS, OVERFLOWED


def collect(view: ServerSnapshot) -> Iterator[Metric]:
    """Failures of ours, in the master and in workers, and label values that were too many."""
    errors = Counter(view.errors)
    for (where,), cells in view.totals.series(EXPORTER_ERRORS.number).items():
        errors[where] += int(cells[0])
    failures = CounterMetricFamily(
        "gunicorn_exporter_errors", "Failures of the exporter's own; the server went on.", labels=("where",)
    )
    for where, count in errors.items():
        failures.add_metric((where,), count)
    yield failures

    overflowed = CounterMetricFamily(
        "gunicorn_exporter_overflowed_labels",
        "Times that a label value was turned into <other> because the label had too many.",
        labels=OVERFLOWED.labels,
    )
    lost = Counter({"endpoint": view.folded(), "error_type": 0, "series": 0})
    for (label,), cells in view.totals.series(OVERFLOWED.number).items():
        lost[label] += int(cells[0])
    for label, count in lost.items():
        overflowed.add_metric((label,), count)
    yield overflowed
