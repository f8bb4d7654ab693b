"""Processes of workers and dirty workers: memory, CPU time and open files, read from the kernel at the scrape."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from ..concurrency import process_exists
from ..model.server_snapshot import ServerSnapshot
from .workers import created as worker_created

_WORKER = ("worker_id",)
MIN_SECONDS: Final = 1.0
"""CPU percent is taken over at least this time, however close together two Prometheus servers scrape."""


@dataclass(frozen=True)
class ProcessUsage:
    """What a worker's process uses.

    Attributes:
        memory_bytes: resident memory.
        cpu_percent: of one core, since the last scrape.
        user_seconds: CPU time in user mode.
        system_seconds: CPU time in the kernel.
        open_fds: number of open file descriptors; None if it cannot be read.
    """

    memory_bytes: int
    cpu_percent: float
    user_seconds: float
    system_seconds: float
    open_fds: int | None


@dataclass(frozen=True)
class DirtyUsage:
    """What dirty workers use.

    Attributes:
        workers: number of live dirty workers.
        memory_bytes: their resident memory.
        user_seconds: CPU time of all dirty workers in user mode, past and present.
        system_seconds: likewise in the kernel.
    """

    workers: int
    memory_bytes: int
    user_seconds: float
    system_seconds: float


@dataclass
class _Watched:
    process: psutil.Process
    percent: float
    seconds: float
    at: float


class WorkerProcesses:
    """Memory, CPU and open files of each worker. Keeps a process handle per live worker, for the CPU percent.

    Args:
        clock: monotonic seconds.
        process: from a pid to a psutil process.
        exists: whether a process has this pid.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        process: Callable[[int], psutil.Process] = psutil.Process,
        exists: Callable[[int], bool] = process_exists,
    ) -> None:
        self._clock = clock
        self._process = process
        self._exists = exists
        self._watched: dict[str, _Watched] = {}

    def read(self, snapshot: ServerSnapshot) -> Mapping[str, ProcessUsage]:
        """Return what each live worker uses, by worker_id. A worker that exits meanwhile is left out.

        So is one of which the kernel does not tell.

        Raises:
            psutil.Error: it tells of none, as without ``/proc``.
        """
        found: dict[str, ProcessUsage] = {}
        unknown: psutil.Error | None = None
        live = {worker.worker_id: (worker.pid, worker.since) for worker in snapshot.workers if worker.pid is not None}
        self._watched = {worker_id: watched for worker_id, watched in self._watched.items() if worker_id in live}
        for worker_id, (pid, since) in live.items():
            try:
                watched = self._watch(worker_id, pid, since)
                with watched.process.oneshot():
                    times = watched.process.cpu_times()
                    resident = watched.process.memory_info().rss
            except psutil.Error as error:
                unknown = unknown if _is_gone(error, self._exists) else error
                continue
            files = None
            with contextlib.suppress(psutil.Error):  # of another user's process they may not be readable
                files = watched.process.num_fds()
            percent = self._percent(watched, times.user + times.system)
            found[worker_id] = ProcessUsage(resident, percent, times.user, times.system, files)
        if unknown is not None and not found:
            raise unknown
        return found

    def collect(self, snapshot: ServerSnapshot) -> Iterator[Metric]:
        """Yield memory, CPU and open files of each live worker."""
        memory = GaugeMetricFamily(
            "gunicorn_worker_memory_bytes", "Resident memory of the worker, in bytes.", labels=_WORKER
        )
        percent = GaugeMetricFamily(
            "gunicorn_worker_cpu_percent",
            "CPU used by the worker since the last scrape, in percent of one core.",
            labels=_WORKER,
        )
        cpu = CounterMetricFamily(
            "gunicorn_worker_cpu_seconds", "CPU time of the worker, in seconds.", labels=("worker_id", "mode")
        )
        files = GaugeMetricFamily("gunicorn_worker_open_fds", "Open file descriptors of the worker.", labels=_WORKER)
        created = {worker.worker_id: worker_created(snapshot, worker) for worker in snapshot.workers}
        for worker_id, usage in self.read(snapshot).items():
            labels, since = (worker_id,), created[worker_id]
            memory.add_metric(labels, usage.memory_bytes)
            percent.add_metric(labels, usage.cpu_percent)
            cpu.add_metric((worker_id, "user"), usage.user_seconds, since)
            cpu.add_metric((worker_id, "system"), usage.system_seconds, since)
            if usage.open_fds is not None:
                files.add_metric(labels, usage.open_fds)
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


class DirtyWorkers:
    """Number, memory and CPU time of gunicorn's dirty workers.

    Adds up their CPU time from scrape to scrape, so that workers that have exited stay in the sum. A dirty worker is a
    child of the dirty arbiter, which forks nothing else. Processes forked by applications are its grandchildren.

    Args:
        process: from a pid to a psutil process.
        exists: whether a process has this pid.
    """

    def __init__(
        self,
        process: Callable[[int], psutil.Process] = psutil.Process,
        exists: Callable[[int], bool] = process_exists,
    ) -> None:
        self._process = process
        self._exists = exists
        self._last: dict[psutil.Process, tuple[float, float]] = {}
        """User and system time at the last scrape. Two handles are equal if pid and time of creation are."""
        self._seconds = [0.0, 0.0]

    def read(self, snapshot: ServerSnapshot) -> DirtyUsage | None:
        """Return what dirty workers use; None where there is no dirty arbiter.

        Raises:
            psutil.Error: the kernel tells of none, as without ``/proc``.
        """
        if not snapshot.dirty_arbiter_pid:
            return None
        number, resident = self._read_live(snapshot.dirty_arbiter_pid)
        return DirtyUsage(number, resident, *self._seconds)

    def collect(self, snapshot: ServerSnapshot) -> Iterator[Metric]:
        """Yield number, memory and CPU time; nothing where there is no dirty arbiter."""
        usage = self.read(snapshot)
        if usage is None:
            return
        yield GaugeMetricFamily("gunicorn_dirty_workers", "Live dirty workers.", value=usage.workers)
        yield GaugeMetricFamily(
            "gunicorn_dirty_memory_bytes", "Resident memory of all dirty workers, in bytes.", value=usage.memory_bytes
        )
        cpu = CounterMetricFamily(
            "gunicorn_dirty_cpu_seconds",
            "CPU time of all dirty workers, past and present, in seconds.",
            labels=("mode",),
        )
        cpu.add_metric(("user",), usage.user_seconds, snapshot.created())
        cpu.add_metric(("system",), usage.system_seconds, snapshot.created())
        yield cpu

    def _read_live(self, arbiter: int) -> tuple[int, int]:
        """Return the number of live dirty workers and their resident memory, and add up their CPU time."""
        try:
            children = self._process(arbiter).children()
        except psutil.NoSuchProcess as error:
            if not _is_gone(error, self._exists):
                raise
            return 0, 0
        for child in self._last.keys() - set(children):
            if not child.is_running():  # a live child that is missed once must not be counted again from zero
                del self._last[child]
        number = resident = 0
        unknown: psutil.Error | None = None
        for child in children:
            try:
                with child.oneshot():
                    times = child.cpu_times()
                    self._add(child, (times.user, times.system))  # a zombie still has those
                    if child.status() != psutil.STATUS_ZOMBIE:
                        resident += child.memory_info().rss
                        number += 1
            except psutil.NoSuchProcess:
                continue
            except psutil.Error as error:
                unknown = error
        if unknown is not None and not number:
            raise unknown
        return number, resident

    def _add(self, child: psutil.Process, now: tuple[float, float]) -> None:
        last = self._last.get(child, (0.0, 0.0))
        self._last[child] = now
        for mode, seconds in enumerate(now):
            self._seconds[mode] += max(0.0, seconds - last[mode])


def _is_gone(error: psutil.Error, exists: Callable[[int], bool]) -> bool:
    """Return whether the process has ended. If not, ``/proc`` is missing, or hides the processes of others."""
    if isinstance(error, psutil.ZombieProcess):
        return True
    return isinstance(error, psutil.NoSuchProcess) and not exists(error.pid)
