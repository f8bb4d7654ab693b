"""Live workers: their states, their requests and their event loops."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from ..model.counts import WorkerCounts
from ..model.server_snapshot import ServerSnapshot, WorkerSnapshot
from ..shm.schema import (
    COUNTS,
    DURATION_SUM,
    ERROR_HANDLING,
    FAILED,
    LAG_BUCKETS,
    LOOP_LAG,
    OTHER,
    WORKER_DURATION_BUCKETS,
    Family,
    lag_samples,
)
from . import histogram
from .histogram import coarser, cumulative

_WORKER = ("worker_id",)


def phase_of(worker: WorkerSnapshot) -> str:
    """Return booting, running or stopping."""
    return "stopping" if worker.stopping or worker.state in ("quit", "abort") else worker.state


def count_phases(snapshot: ServerSnapshot) -> Counter[str]:
    """Return the number of live workers by phase."""
    return Counter(phase_of(worker) for worker in snapshot.workers)


def uptime_seconds(snapshot: ServerSnapshot, worker: WorkerSnapshot) -> float:
    """Return the time since the worker was forked."""
    return max(0.0, snapshot.clock - worker.since)


def blocked_seconds(snapshot: ServerSnapshot, worker: WorkerSnapshot) -> float | None:
    """Return for how long the timer in the worker's event loop has been due; None if it has no such timer.

    The time is read after the slots are copied. A timer that has fired in between counts as not late: its sample is
    missing from one scrape, and never in it twice.
    """
    return None if worker.loop_due is None else max(0.0, snapshot.clock - worker.loop_due)


def answered(counts: WorkerCounts) -> float:
    """Return the number of requests that a worker has answered."""
    return sum(counts.requests[COUNTS])


def failed(counts: WorkerCounts) -> float:
    """Return the number of requests of a worker that have failed."""
    return sum(cells[0] for cells in counts.tally.series(FAILED.number).values())


def lag_cells(counts: WorkerCounts) -> list[float]:
    """Return the cells of ``LOOP_LAG``: what a worker has measured of its event loop's lag."""
    cells = [0.0] * LOOP_LAG.cells
    for found in counts.tally.series(LOOP_LAG.number).values():
        cells = list(map(operator.add, cells, found))
    return cells


def collect_states(snapshot: ServerSnapshot) -> Iterator[Metric]:
    """Yield states, uptime, heartbeat and capacity of each worker, and the number of workers by phase."""
    # Under worker_label="slot" a worker has the worker_id of its predecessor, whose final state is an earlier one then.
    live = {worker.worker_id for worker in snapshot.workers}
    rows = {
        (worker_id, state, _timestamp(snapshot, at)): (float(worker_id not in live), at)
        for worker_id, state, at in snapshot.departed
    }
    for worker in snapshot.workers:
        for entered, at in worker.states.items():
            rows[worker.worker_id, entered, _timestamp(snapshot, at)] = float(entered == worker.state), at
    states = GaugeMetricFamily(
        "gunicorn_worker_state",
        "1 for the worker's state, 0 for earlier ones; timestamp is the unix time of the change to it, in seconds.",
        labels=("worker_id", "state", "timestamp"),
    )
    entered_at = GaugeMetricFamily(
        "gunicorn_worker_state_timestamp_seconds",
        "Unix time of the worker's change to the state, in seconds.",
        labels=("worker_id", "state"),
    )
    for labels, (value, at) in rows.items():
        states.add_metric(labels, value)
        entered_at.add_metric(labels[:2], at)
    yield from (states, entered_at)

    phases = count_phases(snapshot)
    workers = GaugeMetricFamily(
        "gunicorn_workers", "Live workers; stopping: the master has asked them to exit.", labels=("state",)
    )
    for phase in ("booting", "running", "stopping"):
        workers.add_metric((phase,), phases[phase])
    yield workers

    uptime = GaugeMetricFamily("gunicorn_worker_uptime_seconds", "Time since the fork, in seconds.", labels=_WORKER)
    heartbeat = GaugeMetricFamily(
        "gunicorn_worker_heartbeat_age_seconds",
        "Time since the worker's last heartbeat, in seconds; gunicorn kills the worker after its timeout.",
        labels=_WORKER,
    )
    threads = GaugeMetricFamily(
        "gunicorn_worker_threads",
        "Requests that the worker can process at a time: threads or connections. Absent if nothing limits them.",
        labels=_WORKER,
    )
    pids = GaugeMetricFamily("gunicorn_worker_pid", "PID of the worker.", labels=_WORKER)
    info = GaugeMetricFamily(
        "gunicorn_worker_info",
        "PID, slot and class of the worker; always 1. Without the PID if worker_id is that of a slot.",
        labels=("worker_id", "pid", "slot", "worker_class"),
    )
    for worker in snapshot.workers:
        uptime.add_metric((worker.worker_id,), uptime_seconds(snapshot, worker))
        if worker.capacity is not None:
            threads.add_metric((worker.worker_id,), worker.capacity)
        if worker.heartbeat_age is not None:
            heartbeat.add_metric((worker.worker_id,), worker.heartbeat_age)
        if worker.pid is not None:
            pids.add_metric((worker.worker_id,), worker.pid)
            pid = "" if snapshot.options.has_slot_labels else str(worker.pid)
            info.add_metric((worker.worker_id, pid, str(worker.slot), worker.worker_class), 1.0)
    yield from (uptime, heartbeat, threads, pids, info)


def _timestamp(snapshot: ServerSnapshot, at: float) -> str:
    """Return the label ``timestamp``: empty if worker_id is that of a slot, so that a worker makes no new series."""
    return "" if snapshot.options.has_slot_labels else str(int(at))


def created(snapshot: ServerSnapshot, worker: WorkerSnapshot) -> float | None:
    """Return the value of the ``_created`` samples of a worker's series; None if the settings leave these out."""
    return snapshot.created(worker.states.get("booting", 0.0))


class WorkerRequests:
    """Requests of each live worker, counted from zero.

    Keeps the last busy time of each worker, so that it never goes backwards: a request that ends between the reading
    of the sums and of the in-flight table is in neither for one scrape.
    """

    def __init__(self) -> None:
        self._busy: dict[int, float] = {}
        """By serial number: under worker_label="slot" a successor has the worker_id of its predecessor."""

    def collect(self, snapshot: ServerSnapshot) -> Iterator[Metric]:
        """Yield requests, durations, busy time, requests in progress and failures of each live worker."""
        requests = CounterMetricFamily("gunicorn_worker_requests", "Requests answered by the worker.", labels=_WORKER)
        durations = HistogramMetricFamily(
            "gunicorn_worker_request_duration_seconds",
            "Time from the parsed request to the end of the response, in seconds.",
            labels=_WORKER,
        )
        busy = CounterMetricFamily(
            "gunicorn_worker_busy_seconds",
            "Sum of the durations of all requests in seconds, those in progress included.",
            labels=_WORKER,
        )
        in_progress = GaugeMetricFamily(
            "gunicorn_worker_requests_in_progress", "Requests being processed by the worker.", labels=_WORKER
        )
        oldest = GaugeMetricFamily(
            "gunicorn_worker_oldest_request_seconds",
            "Age of the oldest request in progress, in seconds; of requests beyond 128, their mean age. 0 if none.",
            labels=_WORKER,
        )
        self._busy = {
            worker.serial: self._busy_seconds(snapshot, worker.serial, snapshot.counts[worker.worker_id])
            for worker in snapshot.workers
        }
        for worker in snapshot.workers:
            counts = snapshot.counts[worker.worker_id]
            labels = (worker.worker_id,)
            buckets = coarser(snapshot.buckets.bounds, counts.requests[COUNTS], WORKER_DURATION_BUCKETS)
            since = created(snapshot, worker)
            requests.add_metric(labels, answered(counts), since)
            seconds = counts.requests[DURATION_SUM]
            histogram.add(durations, {"worker_id": worker.worker_id}, buckets, seconds, since)
            busy.add_metric(labels, self._busy[worker.serial], since)
            in_progress.add_metric(labels, counts.in_progress)
            oldest.add_metric(labels, _oldest_seconds(snapshot, counts))
        yield from (requests, durations, busy, in_progress, oldest)
        yield _per_worker(
            snapshot, FAILED, "gunicorn_worker_failed_requests", "Requests with an exception or a 5xx response."
        )
        yield _per_worker(
            snapshot,
            ERROR_HANDLING,
            "gunicorn_worker_error_handling",
            "Errors that reached gunicorn's own error handling, malformed requests included.",
        )

    def _busy_seconds(self, snapshot: ServerSnapshot, serial: int, counts: WorkerCounts) -> float:
        running = sum(max(0.0, snapshot.clock - request.start) for request in counts.in_flight)
        running += counts.untracked.seconds(snapshot.clock)
        return max(self._busy.get(serial, 0.0), counts.requests[DURATION_SUM] + running)


class EventLoopLag:
    """How late the event loops of live workers are.

    Keeps the last count and sum of each worker, so that nothing goes backwards. While a loop is blocked, the samples
    that it misses are counted above all bounds, since how late they will be is not known yet. The sum has their lag so
    far. When the loop goes on, they move below some of the bounds, so no cumulative count ever goes down.
    """

    def __init__(self) -> None:
        self._last: dict[int, tuple[float, float]] = {}
        """Count and sum, by serial number of the worker."""

    def collect(self, snapshot: ServerSnapshot) -> Iterator[Metric]:
        """Yield the histogram of lags, and for how long each loop has been blocked."""
        lags = HistogramMetricFamily(
            "gunicorn_worker_event_loop_lag_seconds",
            "Delay of a timer in the worker's event loop, in seconds; two samples a second.",
            labels=_WORKER,
        )
        blocked = GaugeMetricFamily(
            "gunicorn_worker_event_loop_blocked_seconds",
            "Time for which the timer in the worker's event loop has been due, in seconds; 0 if it is not.",
            labels=_WORKER,
        )
        last = {}
        for worker in snapshot.workers:
            late = blocked_seconds(snapshot, worker)
            if late is None:
                continue
            cells = lag_cells(snapshot.counts[worker.worker_id])
            missed, _, seconds = lag_samples(late) if late else (0, 0.0, 0.0)
            count, total = sum(cells[1:]) + missed, cells[0] + seconds
            before = self._last.get(worker.serial, (0.0, 0.0))
            last[worker.serial] = count, total = max(count, before[0]), max(total, before[1])
            buckets = [*cumulative(LAG_BUCKETS, cells[1:])[:-1], ("+Inf", count)]
            histogram.add(lags, {"worker_id": worker.worker_id}, buckets, total, created(snapshot, worker))
            blocked.add_metric((worker.worker_id,), late)
        self._last = last
        if last:
            yield from (lags, blocked)


def _oldest_seconds(snapshot: ServerSnapshot, counts: WorkerCounts) -> float:
    """Return the age of the oldest known request. Of untracked requests, at least one is as old as their mean."""
    ages = [0.0, *(snapshot.clock - request.start for request in counts.in_flight)]
    if counts.untracked.number:
        ages.append(counts.untracked.seconds(snapshot.clock) / counts.untracked.number)
    return max(ages)


def _per_worker(snapshot: ServerSnapshot, family: Family, name: str, documentation: str) -> Metric:
    metric = CounterMetricFamily(name, documentation, labels=("worker_id", *family.labels))
    none = (OTHER,) * len(family.labels)
    for worker in snapshot.workers:
        tally = snapshot.counts[worker.worker_id].tally
        for labels, cells in {none: [0.0], **tally.series(family.number)}.items():
            since = max(worker.states.get("booting", 0.0), tally.since(family.number, labels))
            metric.add_metric((worker.worker_id, *labels), cells[0], snapshot.created(since))
    return metric
