"""Scrape-time collectors, one per file: from a view of the server to families of metrics. They just raise."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ..guard import Guard
from . import backlog, deaths, exporter, log_messages, master, requests, worker_states
from .dirty import DirtyWorkers
from .view import View
from .worker_processes import WorkerProcesses
from .worker_requests import WorkerRequests

Collect = Callable[[View], Iterable[Metric]]


def all_collectors() -> tuple[tuple[str, Collect], ...]:
    """Every collector and its name, in the order of the page."""
    return (
        ("requests", requests.collect),
        ("worker_requests", WorkerRequests()),
        ("worker_states", worker_states.collect),
        ("worker_processes", WorkerProcesses()),
        ("deaths", deaths.collect),
        ("backlog", backlog.collect),
        ("dirty", DirtyWorkers()),
        ("log_messages", log_messages.collect),
        ("master", master.collect),
        ("process", master.collect_process),
        ("exporter", exporter.collect),
    )


class Page(Collector):
    """All collectors as one: each is timed, and one that fails costs its own families only.

    Args:
        look: takes a view of the server.
    """

    def __init__(self, look: Callable[[], View], guard: Guard) -> None:
        self._look = look
        self._guard = guard
        self._collectors = all_collectors()

    def collect(self) -> Iterator[Metric]:
        """The families, then how long each collector took and whether it succeeded."""
        view = self._look()
        duration = GaugeMetricFamily(
            "gunicorn_exporter_collector_duration_seconds", "Time that the collector took.", labels=("collector",)
        )
        success = GaugeMetricFamily(
            "gunicorn_exporter_collector_success", "1 if the collector succeeded.", labels=("collector",)
        )
        for name, collect in self._collectors:
            start = time.perf_counter()
            families, succeeded = self._execute(name, collect, view)
            duration.add_metric((name,), time.perf_counter() - start)
            success.add_metric((name,), float(succeeded))
            yield from families
        yield from (duration, success)

    def _execute(self, name: str, collect: Collect, view: View) -> tuple[list[Metric], bool]:
        try:
            return list(collect(view)), True
        except Exception:  # noqa: BLE001 - this is the one place where a collector's failure ends
            self._guard.failed(f"collector_{name}")
            return [], False
