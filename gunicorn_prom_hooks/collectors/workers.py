"""What each worker is, in which state, for how long, and when the master last heard of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from ..model.server_snapshot import ServerSnapshot, WorkerSnapshot

_WORKER = ("worker_id",)


def collect(view: ServerSnapshot) -> Iterator[Metric]:
    """States, uptime, heartbeat, capacity, and gunicorn_workers."""
    # Under worker_label="slot" a worker has the worker_id of its predecessor: the last word on a row counts.
    rows: dict[tuple[str, str, str], float] = {
        (worker_id, state, str(int(at))): 1.0 for worker_id, state, at in view.departed
    }
    for worker in view.workers:
        for entered, at in worker.states.items():
            rows[worker.worker_id, entered, str(int(at))] = float(entered == worker.state)
    states = GaugeMetricFamily(
        "gunicorn_worker_state",
        "1 in this state, 0 if the worker has left it; timestamp is the unix time at which it entered the state.",
        labels=("worker_id", "state", "timestamp"),
    )
    for labels, value in rows.items():
        states.add_metric(labels, value)
    yield states

    now_in = Counter(phase_of(worker) for worker in view.workers)
    workers = GaugeMetricFamily(
        "gunicorn_workers", "Live workers; stopping are those that have been told to leave.", labels=("state",)
    )
    for phase in ("booting", "running", "stopping"):
        workers.add_metric((phase,), now_in[phase])
    yield workers

    uptime = GaugeMetricFamily("gunicorn_worker_uptime_seconds", "Time since the worker was forked.", labels=_WORKER)
    heartbeat = GaugeMetricFamily(
        "gunicorn_worker_heartbeat_age_seconds",
        "Time since the worker last told the master that it is alive; gunicorn kills it when its timeout is over.",
        labels=_WORKER,
    )
    threads = GaugeMetricFamily(
        "gunicorn_worker_threads",
        "Requests that the worker can serve at a time: threads, or connections. Absent where nothing limits them.",
        labels=_WORKER,
    )
    info = GaugeMetricFamily(
        "gunicorn_worker_info", "What the worker is; always 1.", labels=("worker_id", "pid", "slot", "worker_class")
    )
    for worker in view.workers:
        uptime.add_metric((worker.worker_id,), max(0.0, view.clock - worker.since))
        if worker.capacity is not None:
            threads.add_metric((worker.worker_id,), worker.capacity)
        if worker.heartbeat_age is not None:
            heartbeat.add_metric((worker.worker_id,), worker.heartbeat_age)
        if worker.pid is not None:
            info.add_metric((worker.worker_id, str(worker.pid), str(worker.slot), worker.worker_class), 1.0)
    yield from (uptime, heartbeat, threads, info)


def phase_of(worker: WorkerSnapshot) -> str:
    """What it is: booting, running, or stopping."""
    return "stopping" if worker.stopping or worker.state in ("quit", "abort") else worker.state
