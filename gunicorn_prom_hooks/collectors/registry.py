"""Scrape-time collectors, one per file: from a view of the server to families of metrics. They just raise."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Final, NamedTuple, TypeVar

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ..concurrency import new_lock
from ..errors import ErrorReporter
from ..inherited_descriptors import Opened, below, descriptors, is_sock_diag, transient
from ..model.server_snapshot import ServerSnapshot
from . import backlog, exporter, log_messages, master, requests, websockets, worker_exits, workers
from .dirty import DirtyWorkers
from .event_loop_lag import EventLoopLag
from .name_conflicts import Clashes
from .processes import WorkerProcesses
from .runner import Task, TaskRunner
from .worker_requests import WorkerRequests

Collect = Callable[[ServerSnapshot], Iterable[Metric]]
OPENED: Final = (below("/proc"), below("/sys"), is_sock_diag)
"""What collectors open for a moment, but for the application's files."""
T = TypeVar("T")


class Collected(NamedTuple):
    """What one collector gave, and how long it took for that."""

    name: str
    families: list[Metric]
    seconds: float
    succeeded: bool


def all_collectors(note: Callable[[str], None] = backlog.ignore) -> tuple[tuple[str, Collect], ...]:
    """Return every collector and its name, in the order of the page.

    Args:
        note: takes lines for the log.
    """
    return (
        ("requests", requests.collect),
        ("websockets", websockets.collect),
        ("worker_requests", WorkerRequests()),
        ("worker_states", workers.collect),
        ("event_loop_lag", EventLoopLag()),
        ("worker_processes", WorkerProcesses()),
        ("deaths", worker_exits.collect),
        ("backlog", functools.partial(backlog.collect, note=note)),
        ("dirty", DirtyWorkers()),
        ("log_messages", log_messages.collect),
        ("master", master.collect),
        ("process", master.collect_process),
        ("exporter", exporter.collect),
    )


class MetricsPage(Collector):
    """All collectors as one: each is timed, and one that fails or hangs costs its own families only.

    One page is made at a time: collectors remember what they last said.

    Args:
        look: takes a view of the server.
        errors: where failures end.
        application: collects the application's own metrics; None if there are none.
        hold: what must be held while anything is logged.
        warn: logs a line.
    """

    def __init__(
        self,
        look: Callable[[], ServerSnapshot],
        errors: ErrorReporter,
        application: Callable[[], Iterable[Metric]] | None = None,
        hold: Callable[[], AbstractContextManager[None]] = nullcontext,
        warn: Callable[[str], None] = backlog.ignore,
    ) -> None:
        self._warn = warn
        self._look = look
        self._errors = errors
        self._application = application
        self._noted: set[str] = set()
        self._logged: set[str] = set()
        self._collectors = all_collectors(self._noted.add)
        self._hold = hold
        self._clashes = Clashes(errors, hold)
        self._patience = TaskRunner(self._no_thread)
        self._turn = new_lock()

    def collect(self) -> Iterator[Metric]:
        """The families, then how long each collector took and whether it succeeded, then the application's."""
        return self.collect_from(self.look())

    def look(self) -> ServerSnapshot:
        """The server at this moment. Only this takes its lock."""
        return self._look()

    def collect_from(self, view: ServerSnapshot) -> Iterator[Metric]:
        """The page about what was seen."""
        done = self._collected(view)
        application = done.pop() if self._application is not None else None
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

    def in_time(self, name: str, make: Callable[[], T]) -> T:
        """What this makes, unless it hangs.

        Raises:
            Hangs: it does.
        """
        task = Task(name, functools.partial(_closing, descriptors(), make))
        with self._turn:
            self._patience.run([task])
        return task.result()

    def _collected(self, view: ServerSnapshot) -> list[Collected]:
        before = descriptors()
        tasks = [
            Task(name, functools.partial(_closing, before, functools.partial(_listed, collect, view)))
            for name, collect in self._collectors
        ]
        if self._application is not None:
            tasks.insert(0, Task("app_metrics", functools.partial(_called, self._application)))
        with self._turn:
            self._patience.run(tasks)
        self._log_notes()
        done = [self._finished(task) for task in tasks]
        return done if self._application is None else [*done[1:], done[0]]

    def _no_thread(self) -> None:
        with self._hold():
            self._errors.report("thread")

    def _log_notes(self) -> None:
        """Log each line that collectors have taken note of, once. Not in their threads, which may be left behind."""
        for text in sorted(self._noted.copy() - self._logged):
            self._logged.add(text)
            with self._hold():
                self._warn(text)

    def _finished(self, task: Task[list[Metric]]) -> Collected:
        try:
            return Collected(task.name, task.result(), task.seconds, succeeded=True)
        except BaseException:  # noqa: BLE001 - this is the one place where a collector's failure ends
            with self._hold():
                self._errors.report(f"collector_{task.name}")
            return Collected(task.name, [], task.seconds, succeeded=False)


def _closing(before: Opened, make: Callable[[], T]) -> T:
    """What this makes. A worker that is forked meanwhile closes what it has open; what was open before it keeps."""
    with transient(OPENED, before):
        return make()


def _listed(collect: Collect, view: ServerSnapshot) -> list[Metric]:
    return list(collect(view))


def _called(collect: Callable[[], Iterable[Metric]]) -> list[Metric]:
    return list(collect())
