"""Views of a server that is made of slots in this process, for the collectors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from unit_support import new_slot, same

from gunicorn_prom_hooks.collectors import Page
from gunicorn_prom_hooks.collectors.view import View, WorkerView
from gunicorn_prom_hooks.guard import Guard
from gunicorn_prom_hooks.master.ledger import Ledger
from gunicorn_prom_hooks.scoreboard.families import DURATION_SUM, FIRST_BUCKET, REQUEST_SIZE_SUM, RESPONSE_SIZE_SUM
from gunicorn_prom_hooks.scoreboard.leases import Lease, Leases
from gunicorn_prom_hooks.scoreboard.slot import inflight_start, write_out
from gunicorn_prom_hooks.worker.recorder import Recorder

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scene:
    """A server's slots and workers, and the view that its master would take."""

    def __init__(self) -> None:
        self.leases = Leases(new_slot)
        self.pids: dict[int, int] = {}
        self.clock = 100.0
        self.now = 60.0
        self.since = 40.0
        self.departed: list[tuple[str, str, float]] = []
        self.errors: Mapping[str, int] = {}
        self.listeners: list[Any] = []
        self.ledger = Ledger(lambda: False, str)
        self.ledger.restarts["restart"] = 3
        self.dirty_arbiter_pid = 0

    def hire(self, age: int, pid: int | None = None) -> tuple[Lease, Recorder]:
        """A new worker: its lease and its write side."""
        lease = self.leases.take(age, 50.0)
        self.pids[age] = pid or os.getpid()
        return lease, Recorder(lease.slot, 200)

    def view(self) -> View:
        """The server at this moment."""
        return View(
            pid=os.getpid(),
            since=self.since,
            now=self.now,
            clock=self.clock,
            workers=[self._worker(lease) for lease in self.leases.live],
            departed=self.departed,
            slots=self.leases.copy(self.leases.update()),
            rename=same,
            ledger=self.ledger,
            messages={"error": 2},
            reloads=5,
            errors=self.errors,
            folded=lambda: 4,
            target=2,
            timeout=30.0,
            listeners=self.listeners,
            dirty_arbiter_pid=self.dirty_arbiter_pid,
            build={"version": "0", "gunicorn": "1", "python": "2", "worker_class": "sync"},
        )

    def page(self, guard: Guard | None = None) -> Page:
        """The page of this server."""
        return Page(self.view, guard or Guard())

    def _worker(self, lease: Lease) -> WorkerView:
        return WorkerView(
            worker_id=f"worker_{lease.worker}",
            lease=lease,
            pid=self.pids[lease.worker],
            worker_class="SyncWorker",
            capacity=1,
            states={"booting": 50.0, "running": 51.0},
            heartbeat_age=0.5,
            stopping=False,
            in_flight=lease.reader.in_flight(),
            untracked=lease.reader.untracked(),
        )


def request(
    lease: Lease,
    recorder: Recorder,
    bucket: int = 0,
    seconds: float = 0.001,
    *,
    labels: tuple[str, str, int] = ("GET", "/x", 200),
    sizes: tuple[int, int] = (0, 0),
) -> None:
    """Records a request in this bucket, as a worker would."""
    row = recorder.row(*labels, *sizes).at
    lease.slot.words[row + REQUEST_SIZE_SUM] += 10.0
    lease.slot.words[row + RESPONSE_SIZE_SUM] += 20.0
    lease.slot.words[row + DURATION_SUM] += seconds
    lease.slot.words[row + FIRST_BUCKET + bucket] += 1.0


def begin(lease: Lease, start: float, number: int = 0) -> None:
    """Puts a request into the in-flight table; a start of 0.0 takes it out."""
    write_out(lease.slot, inflight_start(number), b"GET", b"/x")
    lease.slot.words[inflight_start(number)] = start


def samples(families: Iterable[Metric]) -> Samples:
    """The samples of these families by name and labels; none comes twice."""
    found: Samples = {}
    for family in families:
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


def scraped(page: Page) -> Samples:
    """The samples of a page, by way of its text."""
    return samples(text_string_to_metric_families(generate_latest(page).decode()))


def one(found: Samples, name: str, **labels: Any) -> float:
    """The sample with this name and exactly these labels."""
    return found[name, frozenset((key, str(value)) for key, value in labels.items())]


def names(found: Samples) -> Sequence[str]:
    """The names of the samples."""
    return [name for name, _ in found]
