"""The master: how many workers it wants, why it lost some, what it runs."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from .view import View

_process = ProcessCollector(registry=None)


def collect(view: View) -> Iterator[Metric]:
    """Target, restarts, versions."""
    yield GaugeMetricFamily("gunicorn_workers_target", "Workers that the master keeps up.", value=view.target)
    restarts = CounterMetricFamily(
        "gunicorn_master_worker_restart",
        "Workers that ended: restart for an orderly end, timeout, or error for any other.",
        labels=("reason",),
    )
    for reason, count in view.restarts.items():
        restarts.add_metric((reason,), count)
    yield restarts
    build = GaugeMetricFamily("gunicorn_build_info", "What runs; always 1.", labels=tuple(view.build))
    build.add_metric(tuple(view.build.values()), 1.0)
    yield build


def collect_process(view: View) -> Iterator[Metric]:
    """The master's own process: ``process_*``."""
    yield from _process.collect()
