"""Snapshots of a simulated server whose slots are in this process."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from gunicorn.config import Config
from gunicorn.workers.sync import SyncWorker
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from gunicorn_prom_hooks.collectors import MetricsPage
from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.master.exits import WorkerExits
from gunicorn_prom_hooks.master.snapshot import take_snapshot
from gunicorn_prom_hooks.master.workers import WorkerRegistry
from gunicorn_prom_hooks.model.server_snapshot import PageOptions, ServerSnapshot
from gunicorn_prom_hooks.shm.aggregate import EndpointCap
from gunicorn_prom_hooks.shm.allocator import Lease, SlotAllocator
from gunicorn_prom_hooks.shm.layout import BOOTING_AT, RUNNING_AT
from gunicorn_prom_hooks.shm.schema import (
    DEFAULT_BUCKETS,
    DURATION_SUM,
    FIRST_BUCKET,
    OTHER,
    REQUEST_SIZE_SUM,
    RESPONSE_SIZE_SUM,
)
from gunicorn_prom_hooks.shm.slot import inflight_start, write_out
from gunicorn_prom_hooks.shm.stack_file import StackFile
from gunicorn_prom_hooks.worker.recording.recorder import Recorder
from tests.helpers.recording import new_slot

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class SimulatedServer:
    """A server's slots and workers. Its snapshots are taken by the product's own code, at times that the test sets.

    Attributes:
        clock: monotonic seconds.
        now: unix seconds.
        since: monotonic seconds at which the master began.
        started: unix seconds at which it began.
        options: of the metrics page.
    """

    def __init__(self) -> None:
        self.allocator = SlotAllocator(new_slot)
        self.clock = 100.0
        self.now = 60.0
        self.since = 80.0
        self.started = 40.0
        self.options = PageOptions({}, size_histograms=True, created_timestamps=False, has_slot_labels=False)
        self.departed: list[tuple[str, str, float]] = []
        self.errors: Mapping[str, int] = {}
        self.listeners: list[Any] = []
        self.dirty_arbiter_pid = 0
        self._exits = WorkerExits(SimpleNamespace(), ErrorReporter(), 200, StackFile())
        self._exits.exit_log.count_message("error")
        self._exits.exit_log.count_message("error")
        self.exit_stats = self._exits.exit_stats
        self.exit_stats.restarts["restart"] = 3
        self._workers = WorkerRegistry(self.allocator, self._exits)

    def add_worker(self, age: int, pid: int | None = None) -> tuple[Lease, Recorder]:
        """Add a running worker. Return its lease and its recorder."""
        worker: Any = SyncWorker.__new__(SyncWorker)
        worker.age, worker.pid, worker.aborted = age, pid or os.getpid(), False
        worker.tmp = SimpleNamespace(last_update=lambda: time.monotonic() - 0.5)
        tracked = self._workers.add(worker, "age")
        tracked.worker_id = f"worker_{age}"
        lease = tracked.lease
        lease.since = 90.0
        lease.slot.header[BOOTING_AT], lease.slot.header[RUNNING_AT] = 50.0, 51.0
        return lease, Recorder(lease.slot, 200)

    def replace_process(self, age: int, pid: int) -> None:
        """Give the worker of this age another process."""
        [tracked] = [tracked for tracked in self._workers.live() if tracked.worker.age == age]
        tracked.worker.pid = pid

    def remove_worker(self, lease: Lease) -> None:
        """Remove the worker with this lease, as after its exit."""
        [tracked] = [tracked for tracked in self._workers.live() if tracked.lease is lease]
        self._workers.queue_exit(tracked.worker)
        self._workers.reconcile({other.worker.age for other in self._workers.live() if other is not tracked})

    def snapshot(self) -> ServerSnapshot:
        """Return a snapshot of the server."""
        server = SimpleNamespace(
            num_workers=2,
            timeout=30,
            LISTENERS=self.listeners,
            dirty_arbiter_pid=self.dirty_arbiter_pid,
            cfg=Config(),
        )
        cap = EndpointCap(200, {}, frozenset(), OTHER)  # renames nothing
        errors = ErrorReporter()
        errors.counts.update(self.errors)
        corrupt = self.allocator.update()
        seen = take_snapshot(
            server,
            self._workers,
            self._exits,
            cap,
            errors,
            corrupt=corrupt,
            since=self.since,
            started=self.started,
            reloads=5,
            buckets=DEFAULT_BUCKETS,
            options=self.options,
        )
        return dataclasses.replace(
            seen,
            now=self.now,
            clock=self.clock,
            workers=[dataclasses.replace(worker, heartbeat_age=0.5) for worker in seen.workers],
            departed=self.departed,
            folded=lambda: 4,
            build={"version": "0", "gunicorn": "1", "python": "2", "worker_class": "sync", "app": "shop"},
        )

    def metrics_page(self, errors: ErrorReporter | None = None) -> MetricsPage:
        """Return the metrics page of this server."""
        return MetricsPage(self.snapshot, errors or ErrorReporter())


def request(
    lease: Lease,
    recorder: Recorder,
    bucket: int = 0,
    seconds: float = 0.001,
    *,
    labels: tuple[str, str, int] = ("GET", "/x", 200),
    sizes: tuple[int, int] = (0, 0),
) -> None:
    """Record a request in this bucket, as a worker does."""
    row = recorder.row(*labels, *sizes).at
    lease.slot.words[row + REQUEST_SIZE_SUM] += 10.0
    lease.slot.words[row + RESPONSE_SIZE_SUM] += 20.0
    lease.slot.words[row + DURATION_SUM] += seconds
    lease.slot.words[row + FIRST_BUCKET + bucket] += 1.0


def begin(lease: Lease, start: float, number: int = 0, *, method: str = "GET", path: str = "/x") -> None:
    """Add a request to the in-flight table. A start of 0.0 removes it."""
    write_out(lease.slot, inflight_start(number), method.encode(), path.encode())
    lease.slot.words[inflight_start(number)] = start


def samples(families: Iterable[Metric]) -> Samples:
    """Return the samples of these families by name and labels. None may come twice."""
    found: Samples = {}
    for family in families:
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


def scraped(page: MetricsPage) -> Samples:
    """Return the samples of a page, parsed from its text."""
    return samples(text_string_to_metric_families(generate_latest(page).decode()))


def one(found: Samples, name: str, **labels: Any) -> float:
    """Return the sample with this name and exactly these labels."""
    return found[name, frozenset((key, str(value)) for key, value in labels.items())]


def names(found: Samples) -> Sequence[str]:
    """Return the names of the samples."""
    return [name for name, _ in found]
