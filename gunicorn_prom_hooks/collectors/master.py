"""The master: how many workers it wants, how patient it is with them, what it runs."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from ..model.server_snapshot import ServerSnapshot

_process = ProcessCollector(registry=None)


def collect(view: ServerSnapshot) -> Iterator[Metric]:
    """Target, timeout, reloads, versions."""
    yield GaugeMetricFamily("gunicorn_workers_target", "Workers that the master keeps up.", value=view.target)
    yield GaugeMetricFamily(
        "gunicorn_worker_timeout_seconds",
        "Silence after which gunicorn kills a worker; 0: it never does.",
        value=view.timeout,
    )
    yield CounterMetricFamily(
        "gunicorn_reloads", "Times that gunicorn has read its configuration anew.", value=view.reloads
    )
    build = GaugeMetricFamily("gunicorn_build_info", "What runs; always 1.", labels=tuple(view.build))
    build.add_metric(tuple(view.build.values()), 1.0)
    yield build


def collect_process(view: ServerSnapshot) -> Iterator[Metric]:
    """The master's own process: ``process_*``."""
    yield from _process.collect()
