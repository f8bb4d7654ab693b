"""Memory, CPU time and open files of each worker, as the kernel has them at the moment of the scrape."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from ..model.server_snapshot import ServerSnapshot

_WORKER = ("worker_id",)
MIN_SECONDS = 1.0
"""CPU percent is taken over at least this time, however close together two Prometheus servers scrape."""


@dataclass
class _Watched:
    process: psutil.Process
    percent: float
    seconds: float
    at: float


class WorkerProcesses:
    """Keeps a process handle per live worker, to see the CPU time used since the last scrape.

    Args:
        clock: monotonic seconds.
        process: from a pid to a psutil process.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        process: Callable[[int], psutil.Process] = psutil.Process,
    ) -> None:
        self._clock = clock
        self._process = process
        self._watched: dict[str, _Watched] = {}

    def __call__(self, view: ServerSnapshot) -> Iterator[Metric]:
        """Memory, CPU, open files. A worker that ends meanwhile has no rows."""
        memory = GaugeMetricFamily("gunicorn_worker_memory_bytes", "Resident memory of the worker.", labels=_WORKER)
        percent = GaugeMetricFamily(
            "gunicorn_worker_cpu_percent",
            "CPU that the worker used since the last scrape, in percent of one core.",
            labels=_WORKER,
        )
        cpu = CounterMetricFamily(
            "gunicorn_worker_cpu_seconds", "CPU time of the worker.", labels=("worker_id", "mode")
        )
        files = GaugeMetricFamily("gunicorn_worker_open_fds", "Open file descriptors of the worker.", labels=_WORKER)
        live = {worker.worker_id: (worker.pid, worker.since) for worker in view.workers if worker.pid is not None}
        self._watched = {worker_id: seen for worker_id, seen in self._watched.items() if worker_id in live}
        for worker_id, (pid, since) in live.items():
            try:
                watched = self._watch(worker_id, pid, since)
                with watched.process.oneshot():
                    times = watched.process.cpu_times()
                    resident = watched.process.memory_info().rss
            except psutil.Error:
                continue
            with contextlib.suppress(psutil.Error):  # of another user's process not everybody may know these
                files.add_metric((worker_id,), watched.process.num_fds())
            labels = (worker_id,)
            memory.add_metric(labels, resident)
            percent.add_metric(labels, self._percent(watched, times.user + times.system))
            cpu.add_metric((worker_id, "user"), times.user)
            cpu.add_metric((worker_id, "system"), times.system)
        yield from (memory, percent, cpu, files)

    def _watch(self, worker_id: str, pid: int, since: float) -> _Watched:
        watched = self._watched.get(worker_id)
        if watched is None or watched.process.pid != pid:
            at = min(since, self._clock() - MIN_SECONDS)
            watched = self._watched[worker_id] = _Watched(self._process(pid), 0.0, 0.0, at)
        return watched

    def _percent(self, watched: _Watched, seconds: float) -> float:
        now = self._clock()
        if now - watched.at >= MIN_SECONDS:
            watched.percent = max(0.0, 100.0 * (seconds - watched.seconds) / (now - watched.at))
            watched.seconds, watched.at = seconds, now
        return watched.percent
