"""Scrape-time collectors, one per file: from a view of the server to families of metrics. They just raise."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ..guard import Guard
from . import backlog, deaths, exporter, log_messages, master, requests, websockets, worker_states
from .clashes import Clashes
from .dirty import DirtyWorkers
from .view import View
from .worker_processes import WorkerProcesses
from .worker_requests import WorkerRequests

Collect = Callable[[View], Iterable[Metric]]


class Collected(NamedTuple):
    """What one collector gave, and how long it took for that."""

    name: str
    families: list[Metric]
    seconds: float
    succeeded: bool


def all_collectors() -> tuple[tuple[str, Collect], ...]:
    """Every collector and its name, in the order of the page."""
    return (
        ("requests", requests.collect),
        ("websockets", websockets.collect),
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
        guard: where failures end.
        application: collects the application's own metrics; None if there are none.
        hold: what must be held while anything is logged.
    """

    def __init__(
        self,
        look: Callable[[], View],
        guard: Guard,
        application: Callable[[], Iterable[Metric]] | None = None,
        hold: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._look = look
        self._guard = guard
        self._application = application
        self._collectors = all_collectors()
        self._hold = hold
        self._clashes = Clashes(guard, hold)

    def collect(self) -> Iterator[Metric]:
        """The families, then how long each collector took and whether it succeeded, then the application's."""
        return self.collect_from(self.look())

    def look(self) -> View:
        """The server at this moment. Only this needs its lock."""
        return self._look()

    def collect_from(self, view: View) -> Iterator[Metric]:
        """The page about what was seen."""
        application = None if self._application is None else self._execute("app_metrics", self._application)
        done = [self._execute(name, functools.partial(collect, view)) for name, collect in self._collectors]
        families = [family for collected in done for family in collected.families]
        if application is not None:
            done.append(application)
        duration = GaugeMetricFamily(
            "gunicorn_exporter_collector_duration_seconds", "Time that the collector took.", labels=("collector",)
        )
        success = GaugeMetricFamily(
            "gunicorn_exporter_collector_success", "1 if the collector succeeded.", labels=("collector",)
        )
        for collected in done:
            duration.add_metric((collected.name,), collected.seconds)
            success.add_metric((collected.name,), float(collected.succeeded))
        families += (duration, success)
        yield from families
        if application is not None:
            yield from self._clashes.without(application.families, families)

    def _execute(self, name: str, collect: Callable[[], Iterable[Metric]]) -> Collected:
        start = time.perf_counter()
        try:
            return Collected(name, list(collect()), time.perf_counter() - start, succeeded=True)
        except Exception:  # noqa: BLE001 - this is the one place where a collector's failure ends
            with self._hold():
                self._guard.failed(f"collector_{name}")
            return Collected(name, [], time.perf_counter() - start, succeeded=False)
