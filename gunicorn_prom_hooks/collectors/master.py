"""The master: its settings and process, worker exits, log messages, and failures of this package."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from ..model.exits import ExitReason
from ..model.server_snapshot import ServerSnapshot
from ..shm.schema import EXPORTER_ERRORS, LEVELS, LOG_MESSAGES, OTHER, OVERFLOWED
from . import histogram
from .histogram import cumulative

_process = ProcessCollector(registry=None)


def collect(snapshot: ServerSnapshot) -> Iterator[Metric]:
    """Yield the target number of workers, the timeout, reloads and versions."""
    yield GaugeMetricFamily("gunicorn_workers_target", "Workers that the master maintains.", value=snapshot.target)
    yield GaugeMetricFamily(
        "gunicorn_worker_timeout_seconds",
        "Time without a heartbeat after which gunicorn kills a worker, in seconds; 0: never.",
        value=snapshot.timeout,
    )
    yield CounterMetricFamily(
        "gunicorn_reloads",
        "Reloads of gunicorn's configuration.",
        value=snapshot.reloads,
        created=snapshot.created(),
    )
    build = GaugeMetricFamily(
        "gunicorn_build_info",
        "Versions, worker class and application of the server; app is gunicorn's proc_name. Always 1.",
        labels=tuple(snapshot.build),
    )
    build.add_metric(tuple(snapshot.build.values()), 1.0)
    yield build


def collect_process(snapshot: ServerSnapshot) -> Iterator[Metric]:
    """Yield the ``process_*`` families of the master's own process."""
    yield from _process.collect()


def collect_exits(snapshot: ServerSnapshot) -> Iterator[Metric]:
    """Yield worker exits, the same by coarser reasons, interrupted requests, boot times and lifetimes."""
    exit_stats = snapshot.exit_stats
    exits = CounterMetricFamily(
        "gunicorn_worker_exits",
        "Worker exits; detail is the name of a signal or an exit code.",
        labels=("reason", "detail"),
    )
    for (why, detail), count in exit_stats.exits.items():
        exits.add_metric((why, detail), count, snapshot.created(exit_stats.since.get((why, detail), 0.0)))
    yield exits

    restarts = CounterMetricFamily(
        "gunicorn_master_worker_restart",
        "Worker exits; reason is restart if orderly, timeout, or error for any other.",
        labels=("reason",),
    )
    for reason, count in exit_stats.restarts.items():
        restarts.add_metric((reason,), count, snapshot.created())
    yield restarts

    killed = CounterMetricFamily(
        "gunicorn_killed_requests",
        "Requests in progress when their worker exited.",
        labels=("method", "endpoint", "reason"),
    )
    none = {(OTHER, OTHER, reason): 0 for reason in ExitReason}
    for labels, count in {**none, **exit_stats.killed}.items():
        killed.add_metric(labels, count, snapshot.created(exit_stats.since.get(labels, 0.0)))
    yield killed

    for name, documentation, durations in (
        ("gunicorn_worker_boot_seconds", "Time from the fork to the loaded application, in seconds.", exit_stats.boots),
        (
            "gunicorn_worker_lifetime_seconds",
            "Time from the fork to the worker's exit, in seconds.",
            exit_stats.lifetimes,
        ),
    ):
        family = HistogramMetricFamily(name, documentation)
        buckets = cumulative(durations.bounds, durations.counts)
        histogram.add(family, {}, buckets, durations.seconds, snapshot.created())
        yield family


def collect_log_messages(snapshot: ServerSnapshot) -> Iterator[Metric]:
    """Yield the messages to gunicorn's error log by level, of the master and of workers."""
    messages = CounterMetricFamily(
        "gunicorn_log_messages",
        "Messages to gunicorn's error log, gunicorn's own below the log level included, except debug.",
        labels=LOG_MESSAGES.labels,
    )
    workers = snapshot.totals.series(LOG_MESSAGES.number)
    for level in LEVELS:
        count = snapshot.messages.get(level, 0) + sum(workers.get((level,), ()))
        messages.add_metric((level,), count, snapshot.created())
    yield messages


def collect_exporter(snapshot: ServerSnapshot) -> Iterator[Metric]:
    """Yield internal failures, in the master and in workers, and label values beyond their limits."""
    errors = Counter({OTHER: 0, **snapshot.errors})
    for (where,), cells in snapshot.totals.series(EXPORTER_ERRORS.number).items():
        errors[where] += int(cells[0])
    failures = CounterMetricFamily(
        "gunicorn_exporter_errors",
        "Internal failures of gunicorn_prom_hooks; they do not affect the server.",
        labels=("where",),
    )
    for where, count in errors.items():
        in_workers = snapshot.totals.since(EXPORTER_ERRORS.number, (where,))
        times = [since for since in (in_workers, snapshot.errors_since.get(where, 0.0)) if since]
        failures.add_metric((where,), count, snapshot.created(min(times, default=0.0)))
    yield failures

    overflowed = CounterMetricFamily(
        "gunicorn_exporter_overflowed_labels",
        "Label values replaced by <other> because the label has too many.",
        labels=OVERFLOWED.labels,
    )
    lost = Counter({"endpoint": snapshot.folded(), "error_type": 0, "series": 0})
    for (label,), cells in snapshot.totals.series(OVERFLOWED.number).items():
        lost[label] += int(cells[0])
    for label, count in lost.items():
        overflowed.add_metric((label,), count, snapshot.created())
    yield overflowed
