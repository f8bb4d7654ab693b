"""What is read of a view before there is anything to say of it: counts by endpoint, figures by worker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from prometheus_client.metrics_core import Metric

from ..model.server_snapshot import ServerSnapshot
from ..shm.schema import BUCKETS, COUNTS, FAILED, REQUESTS
from .history import Counted, Key

Figures = Mapping[str, Mapping[str, float]]
"""What a collector says, by name of the sample: the sum of the values by the first label."""
Durations = Mapping[Key, Sequence[float]]
"""Requests by method and endpoint, per bucket of their duration."""
Failures = Mapping[Key, float]
"""Failed requests by method and endpoint."""


def figures(families: Iterable[Metric]) -> Figures:
    """What is in these families."""
    found: dict[str, dict[str, float]] = {}
    for family in families:
        for sample in family.samples:
            values = found.setdefault(sample.name, {})
            first = next(iter(sample.labels.values()))
            values[first] = values.get(first, 0.0) + sample.value
    return found


def durations(view: ServerSnapshot) -> dict[Key, list[float]]:
    """Requests by method and endpoint, per bucket of their duration."""
    found: dict[Key, list[float]] = {}
    for (method, endpoint, *_), cells in view.totals.series(REQUESTS.number).items():
        known = found.setdefault((method, endpoint), [0.0] * BUCKETS)
        known[:] = [a + b for a, b in zip(known, cells[COUNTS], strict=True)]
    return found


def failures(view: ServerSnapshot) -> dict[Key, float]:
    """Failures by method and endpoint."""
    found: dict[Key, float] = defaultdict(float)
    for (method, endpoint, _), cells in view.totals.series(FAILED.number).items():
        found[method, endpoint] += cells[0]
    return found


def counted(view: ServerSnapshot, durations: Durations, failures: Failures, figures: Figures) -> Counted:
    """What there is to remember of this look."""
    requests = {key: sum(counts) for key, counts in durations.items()}
    seconds = figures.get("gunicorn_worker_cpu_seconds_total", {})
    cpu = {w.serial: seconds[w.worker_id] for w in view.workers if w.worker_id in seconds}
    return Counted(view.clock, sum(requests.values()), sum(failures.values()), requests, cpu)
