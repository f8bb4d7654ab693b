"""The master as a whole, without a fork."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.workers.sync import SyncWorker

from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.master.master import Master
from gunicorn_prom_hooks.model.exits import ExitReason
from gunicorn_prom_hooks.settings import Settings
from gunicorn_prom_hooks.shm.layout import QUIT_AT, RUNNING_AT


@pytest.fixture
def master() -> Master:
    """A master without an exporter, whose arbiter has no workers yet."""
    server: Any = SimpleNamespace(cfg=Config(), log=None, WORKERS={}, LISTENERS=[], num_workers=1, timeout=30)
    return Master(server, Settings(port=0, max_endpoints=1), ErrorReporter())


@pytest.fixture
def booting() -> Iterator[list[Any]]:
    """Two of gunicorn's workers before their fork. The arbiter enters them in WORKERS only after it."""
    arguments: tuple[Any, ...] = (os.getpid(), [], None, 30, Config(), None)
    workers: list[Any] = [SyncWorker(age, *arguments) for age in (1, 2)]
    yield workers
    for worker in workers:
        worker.tmp._tmp.close()


def test_worker_has_a_slot_from_before_its_fork_to_its_exit(master: Master, booting: list[Any]) -> None:
    """Each worker finds its own slot, and is in the snapshot until its exit is reported."""
    for pid, worker in zip((os.getpid(), os.getppid()), booting, strict=True):
        master.before_fork(worker)
        worker.pid = pid
        master.server.WORKERS[pid] = worker
    members = [master.tracked_worker(worker) for worker in booting]
    assert [tracked.lease.number for tracked in members if tracked is not None] == [0, 1]
    found = [(worker.pid, worker.capacity) for worker in master.take_snapshot().workers]
    assert found == [(os.getpid(), 1), (os.getppid(), 1)]
    del master.server.WORKERS[os.getpid()]
    master.worker_exited(booting[0])
    assert [worker.pid for worker in master.take_snapshot().workers] == [os.getppid()]


def test_scrape_between_pre_fork_and_fork_keeps_the_slot(master: Master, booting: list[Any]) -> None:
    """A scrape may come while the user's pre_fork runs: the worker keeps its slot, and no exit is counted."""
    master.before_fork(booting[0])
    snapshot = master.take_snapshot()
    assert master.tracked_worker(booting[0]) is not None
    assert sum(snapshot.exit_stats.exits.values()) == 0


def test_failed_fork_is_recorded_at_the_next_fork(master: Master, booting: list[Any]) -> None:
    """The slot of a worker whose fork failed goes to the next worker."""
    for worker in booting:
        master.before_fork(worker)
    assert master.tracked_worker(booting[0]) is None
    tracked = master.tracked_worker(booting[1])
    assert tracked is not None
    assert tracked.lease.number == 0


def test_before_fork_without_check_all_records_only_queued_exits(
    master: Master, booting: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With check_all=False no other worker is looked at. A queued exit is recorded."""
    calls: list[int] = []
    monkeypatch.setattr(master._exits, "observe", lambda workers: calls.append(1))
    booting[0].pid = os.getpid()
    master.before_fork(booting[0])
    assert calls == [1]
    master._workers.queue_exit(booting[0])
    master.before_fork(booting[1], check_all=False)
    assert calls == [1]
    assert master.tracked_worker(booting[0]) is None
    assert master.tracked_worker(booting[1]) is not None


def test_is_ready_needs_a_running_worker_with_a_recent_heartbeat(master: Master, booting: list[Any]) -> None:
    """A worker counts if it has booted, is to stay, and its heartbeat is younger than gunicorn's timeout, if any."""
    worker = booting[0]
    master.before_fork(worker)
    tracked = master.tracked_worker(worker)
    assert tracked is not None
    worker.tmp.notify()
    assert not master.is_ready()
    tracked.lease.slot.header[RUNNING_AT] = 1.0
    assert master.is_ready()
    old = time.monotonic() - 31.0
    os.utime(worker.tmp.fileno(), (old, old))
    assert not master.is_ready()
    master.server.timeout = 0
    assert master.is_ready()
    tracked.stop_reason = ExitReason.RELOAD
    assert not master.is_ready()
    tracked.stop_reason = None
    tracked.lease.slot.header[QUIT_AT] = 1.0
    assert not master.is_ready()
