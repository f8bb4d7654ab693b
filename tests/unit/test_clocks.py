"""Spans and orders are taken from the monotonic clock: the wall clock may be set at any time, in either direction."""

from __future__ import annotations

import ast
import os
import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.workers.sync import SyncWorker

import gunicorn_prom_hooks
from gunicorn_prom_hooks.collectors import MetricsPage
from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.master import exits
from gunicorn_prom_hooks.master.exit_reason import ExitStats
from gunicorn_prom_hooks.master.master import Master
from gunicorn_prom_hooks.model.exits import ExitReason, ExitRecord
from gunicorn_prom_hooks.settings import Settings
from gunicorn_prom_hooks.status.builder import StatusBuilder
from gunicorn_prom_hooks.worker.worker import WorkerRuntime
from tests.helpers.recorded_exits import FakeOomKills
from tests.helpers.snapshots import one, samples

ROOT = Path(gunicorn_prom_hooks.__file__).parent
MOMENTS = {
    "master/snapshot.py": "the moment of a snapshot",
    "master/workers.py": "the moments at which workers were forked and exited",
    "worker/worker.py": "the moments at which a worker entered its states",
    "_gunicorn.py": "the age of a heartbeat file, which has the wall clock's times before gunicorn 22",
    "errors.py": "the moment of the first failure of a kind",
    "shm/slot.py": "the moment at which a series began",
    "master/master.py": "the moment at which the master began",
    "master/exit_reason.py": "the moment of the first exit of a kind",
    "worker/recording/labels.py": "the age of a request header with a time",
    "app_metrics/reading/values_file.py": "the time of a file",
    "app_metrics/directories/private.py": "the age of a directory",
}
"""The modules that read the wall clock, and for what: moments that are shown, or come from elsewhere."""


def reads_wall_clock(source: str) -> bool:
    """Return whether the source reads the wall clock."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in ("time", "time_ns") and ast.unparse(node.value) == "time":
            return True
        if isinstance(node, ast.ImportFrom) and node.module == "time" and {a.name for a in node.names} & {"time"}:
            return True
    return False


def test_only_listed_modules_read_the_wall_clock() -> None:
    """Only modules that show a moment, or compare it with one from elsewhere, read the wall clock."""
    found = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py") if reads_wall_clock(path.read_text())}
    assert found <= MOMENTS.keys()


@pytest.mark.parametrize("seed", range(5))
def test_jumps_of_the_wall_clock_change_no_duration_and_no_order(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock is set before each read: durations, states and reasons are right."""
    chance = random.Random(seed)
    monkeypatch.setattr(time, "time", lambda: chance.uniform(1.0, 4e9))
    monkeypatch.setattr(exits, "OomKills", FakeOomKills)
    server: Any = SimpleNamespace(cfg=Config(), log=None, WORKERS={}, LISTENERS=[], num_workers=1, timeout=30)
    start = time.monotonic()
    master = Master(server, Settings(port=0), ErrorReporter())
    arguments: tuple[Any, ...] = (os.getpid(), [], None, 30, Config(), None)
    worker: Any = SyncWorker(1, *arguments)
    try:
        master.before_fork(worker)
        worker.pid = os.getpid()
        server.WORKERS[worker.pid] = worker
        tracked = master.tracked_worker(worker)
        assert tracked is not None
        side = WorkerRuntime(worker, tracked.lease.reader, Settings(port=0), master.buckets.bounds, ErrorReporter())
        worker.tmp.notify()
        side.ready()
        page = MetricsPage(master.take_snapshot, ErrorReporter())
        took = time.monotonic() - start
        found = samples(page.collect())
        [uptime] = [value for (name, _), value in found.items() if name == "gunicorn_worker_uptime_seconds"]
        assert 0.0 <= uptime <= took + 1.0
        assert one(found, "gunicorn_workers", state="running") == 1.0
        [cpu] = [value for (name, _), value in found.items() if name == "gunicorn_worker_cpu_percent"]
        assert cpu > 0.0
        shown = StatusBuilder().build(master.take_snapshot())
        assert shown.server is not None
        assert shown.server.uptime_seconds <= took + 1.0
        assert master.is_ready()
        side.quitting()
        found = samples(page.collect())
        assert one(found, "gunicorn_workers", state="stopping") == 1.0

        master.observe_message("Worker (pid:%s) was sent %s! Perhaps out of memory?", (worker.pid, "SIGKILL"))
        del server.WORKERS[worker.pid]
        master._workers.queue_exit(worker)
        snapshot = master.take_snapshot()
        assert {how: count for how, count in snapshot.exit_stats.exits.items() if count} == {("signal", "SIGKILL"): 1}
        lived = time.monotonic() - start
        assert 0.0 < snapshot.exit_stats.boots.seconds <= snapshot.exit_stats.lifetimes.seconds <= lived
        assert 0.0 <= snapshot.clock - snapshot.exit_stats.latest[0].clock <= lived
    finally:
        worker.tmp._tmp.close()


def test_latest_exits_are_ordered_by_the_monotonic_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exits are listed in the order in which they came, whatever the wall clock was."""
    exit_stats = ExitStats(FakeOomKills(), 1)
    for number, when in enumerate((3000.0, 1000.0, 2000.0)):
        record = ExitRecord(when, float(number), f"worker_{number}", 1, ExitReason.SIGNAL, "SIGKILL", (), 0)
        exit_stats.keep(record, notable=bool(number % 2))
    assert [record.worker_id for record in exit_stats.latest] == ["worker_2", "worker_1", "worker_0"]
