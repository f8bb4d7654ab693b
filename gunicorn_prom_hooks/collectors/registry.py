"""The registry of all collectors, which makes the metrics page of a snapshot."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Final, NamedTuple, TypeVar

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ..concurrency import ForkLock, new_lock
from ..errors import ErrorReporter
from ..inherited_descriptors import Opened, below, descriptors, is_sock_diag, transient
from ..model.server_snapshot import ServerSnapshot
from . import listeners, master, requests, workers
from .name_conflicts import NameConflicts, add_labels
from .processes import DirtyWorkers, WorkerProcesses
from .runner import Task, TaskRunner

Collect = Callable[[ServerSnapshot], Iterable[Metric]]
OPENED: Final = (below("/proc"), below("/sys"), is_sock_diag)
"""Files and sockets that collectors open for a moment, except the application's files."""
T = TypeVar("T")


class Collected(NamedTuple):
    """What one collector returned, and the time that it took."""

    name: str
    families: list[Metric]
    seconds: float
    succeeded: bool


def all_collectors(warn: Callable[[str], None] = listeners.ignore) -> tuple[tuple[str, Collect], ...]:
    """Return every collector with its name, in the order of the page. Collectors raise; the registry isolates them.

    Args:
        warn: called with lines for the log.
    """
    return (
        ("requests", requests.collect),
        ("websockets", requests.collect_websockets),
        ("worker_requests", workers.WorkerRequests().collect),
        ("worker_states", workers.collect_states),
        ("event_loop_lag", workers.EventLoopLag().collect),
        ("worker_processes", WorkerProcesses().collect),
        ("worker_exits", master.collect_exits),
        ("backlog", functools.partial(listeners.collect, warn=warn)),
        ("dirty", DirtyWorkers().collect),
        ("log_messages", master.collect_log_messages),
        ("master", master.collect),
        ("process", master.collect_process),
        ("exporter", master.collect_exporter),
    )


class MetricsPage(Collector):
    """All collectors as one: each is timed, and one that fails or hangs costs its own families only.

    One page is made at a time: collectors keep state between scrapes.

    Args:
        take_snapshot: takes a snapshot of the server.
        errors: where failures are reported.
        application: collects the application's own metrics; None if there are none.
        fork_lock: held while anything is logged; None: there are no forks.
        warn: logs a line.
    """

    def __init__(
        self,
        take_snapshot: Callable[[], ServerSnapshot],
        errors: ErrorReporter,
        application: Callable[[], Iterable[Metric]] | None = None,
        fork_lock: ForkLock | None = None,
        warn: Callable[[str], None] = listeners.ignore,
    ) -> None:
        self._warn = warn
        self._take_snapshot = take_snapshot
        self._errors = errors
        self._application = application
        self._warnings: set[str] = set()
        self._logged: set[str] = set()
        self._collectors = all_collectors(self._warnings.add)
        self._hold = nullcontext if fork_lock is None else fork_lock.hold
        self._name_conflicts = NameConflicts(errors, fork_lock)
        self._runner = TaskRunner(self._report_no_thread)
        self._lock = new_lock()

    def collect(self) -> Iterator[Metric]:
        """Yield the families of a new snapshot; see ``collect_from``."""
        return self.collect_from(self.take_snapshot())

    def take_snapshot(self) -> ServerSnapshot:
        """Return a snapshot of the server. Only this takes the fork lock for longer than a log line."""
        return self._take_snapshot()

    def collect_from(self, snapshot: ServerSnapshot) -> Iterator[Metric]:
        """Yield all families, then duration and success of each collector, then the application's families."""
        done = self._run_collectors(snapshot)
        application = done.pop() if self._application is not None else None
        families = [family for collected in done for family in collected.families]
        if application is not None:
            done.append(application)
        duration = GaugeMetricFamily(
            "gunicorn_exporter_collector_duration_seconds",
            "Time that the collector took, in seconds.",
            labels=("collector",),
        )
        success = GaugeMetricFamily(
            "gunicorn_exporter_collector_success", "1 if the collector succeeded, else 0.", labels=("collector",)
        )
        for collected in done:
            duration.add_metric((collected.name,), collected.seconds)
            success.add_metric((collected.name,), float(collected.succeeded))
        families += (duration, success)
        if application is not None:
            families += self._name_conflicts.without_conflicts(application.families, families)
        if snapshot.options.labels:
            for family in families:
                add_labels(family, snapshot.options.labels)
        yield from families

    def run_in_time(self, name: str, make: Callable[[], T]) -> T:
        """Return the result of this function, run as a collector is.

        Raises:
            TaskTimeout: it has not returned in time.
        """
        task = Task(name, functools.partial(_with_transient_files, descriptors(), make))
        with self._lock:
            self._runner.run([task])
        return task.result()

    def _run_collectors(self, snapshot: ServerSnapshot) -> list[Collected]:
        """Run all collectors, the application's first, and return it as the last one."""
        before = descriptors()
        tasks = [
            Task(name, functools.partial(_with_transient_files, before, functools.partial(_listed, collect, snapshot)))
            for name, collect in self._collectors
        ]
        if self._application is not None:
            tasks.insert(0, Task("app_metrics", functools.partial(_called, self._application)))
        with self._lock:
            self._runner.run(tasks)
        self._log_warnings()
        done = [self._finished(task) for task in tasks]
        return done if self._application is None else [*done[1:], done[0]]

    def _report_no_thread(self) -> None:
        with self._hold():
            self._errors.report("thread")

    def _log_warnings(self) -> None:
        """Log each warning of the collectors once. Not in their threads, which may be stuck."""
        for text in sorted(self._warnings.copy() - self._logged):
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


def _with_transient_files(before: Opened, make: Callable[[], T]) -> T:
    """Return the function's result. A worker forked meanwhile closes what it has opened, and keeps ``before``."""
    with transient(OPENED, before):
        return make()


def _listed(collect: Collect, snapshot: ServerSnapshot) -> list[Metric]:
    return list(collect(snapshot))


def _called(collect: Callable[[], Iterable[Metric]]) -> list[Metric]:
    return list(collect())
