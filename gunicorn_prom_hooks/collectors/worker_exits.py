"""Why workers ended, what they took with them, how long they lived."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from ..model.exits import Histogram
from ..model.server_snapshot import ServerSnapshot
from .histogram import cumulative


def collect(view: ServerSnapshot) -> Iterator[Metric]:
    """Exits, the same in coarser words, killed requests, boots, lifetimes."""
    exits = CounterMetricFamily(
        "gunicorn_worker_exits",
        "Workers that ended; detail is the name of a signal or an exit code.",
        labels=("reason", "detail"),
    )
    for labels, count in view.exit_stats.exits.items():
        exits.add_metric(labels, count)
    yield exits

    restarts = CounterMetricFamily(
        "gunicorn_master_worker_restart",
        "Workers that ended: restart for an orderly end, timeout, or error for any other.",
        labels=("reason",),
    )
    for reason, count in view.exit_stats.restarts.items():
        restarts.add_metric((reason,), count)
    yield restarts

    killed = CounterMetricFamily(
        "gunicorn_killed_requests",
        "Requests that were in progress when their worker ended.",
        labels=("method", "endpoint", "reason"),
    )
    for which, count in view.exit_stats.killed.items():
        killed.add_metric(which, count)
    yield killed

    yield _durations(
        "gunicorn_worker_boot_seconds", "Time from the fork to the loaded application.", view.exit_stats.boots
    )
    yield _durations(
        "gunicorn_worker_lifetime_seconds", "Time from the fork to the end of the worker.", view.exit_stats.lifetimes
    )


def _durations(name: str, documentation: str, durations: Histogram) -> Metric:
    family = HistogramMetricFamily(name, documentation)
    family.add_metric((), cumulative(durations.bounds, durations.counts), durations.seconds)
    return family
