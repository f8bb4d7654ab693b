"""The master's side as a whole, without a fork."""

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
    """A master without an exporter, whose gunicorn has no workers yet."""
    server: Any = SimpleNamespace(cfg=Config(), log=None, WORKERS={}, LISTENERS=[], num_workers=1, timeout=30)
    return Master(server, Settings(port=0, max_endpoints=1), ErrorReporter())


@pytest.fixture
def booting() -> Iterator[list[Any]]:
    """Two workers of gunicorn's before their fork: it enters them into its books only after that."""
    arguments: tuple[Any, ...] = (os.getpid(), [], None, 30, Config(), None)
    workers: list[Any] = [SyncWorker(age, *arguments) for age in (1, 2)]
    yield workers
    for worker in workers:
        worker.tmp._tmp.close()


def test_a_worker_has_a_slot_from_before_its_fork_to_its_end(master: Master, booting: list[Any]) -> None:
    """Each worker finds its own slot, and is in the view until its end is told."""
    for pid, worker in zip((os.getpid(), os.getppid()), booting, strict=True):
        master.forking(worker)
        worker.pid = pid
        master.server.WORKERS[pid] = worker
    members = [master.member(worker) for worker in booting]
    assert [member.lease.number for member in members if member is not None] == [0, 1]
    assert [(worker.pid, worker.capacity) for worker in master.view().workers] == [(os.getpid(), 1), (os.getppid(), 1)]
    del master.server.WORKERS[os.getpid()]
    master.left(booting[0])
    assert [worker.pid for worker in master.view().workers] == [os.getppid()]


def test_a_scrape_between_pre_fork_and_the_fork_takes_no_slot_away(master: Master, booting: list[Any]) -> None:
    """A scrape may come while the user's own pre_fork hook runs: the worker keeps its slot, and nothing has ended."""
    master.forking(booting[0])
    view = master.view()
    assert master.member(booting[0]) is not None
    assert sum(view.exit_stats.exits.values()) == 0


def test_a_fork_that_failed_is_booked_at_the_next_one(master: Master, booting: list[Any]) -> None:
    """The slot of a worker that never came to be goes to the next one, which gunicorn tries again."""
    for worker in booting:
        master.forking(worker)
    assert master.member(booting[0]) is None
    member = master.member(booting[1])
    assert member is not None
    assert member.lease.number == 0


def test_between_forks_that_follow_each_other_workers_are_not_gone_through(
    master: Master, booting: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the master touches between two forks is copied by the second. An end that it was told of is booked."""
    looks: list[int] = []
    monkeypatch.setattr(master._deaths, "look", lambda members: looks.append(1))
    booting[0].pid = os.getpid()
    master.forking(booting[0])
    assert looks == [1]
    master._workers.left(booting[0])
    master.forking(booting[1], look=False)
    assert looks == [1]
    assert master.member(booting[0]) is None
    assert master.member(booting[1]) is not None


def test_ready_is_who_was_heard_of_within_the_timeout(master: Master, booting: list[Any]) -> None:
    """A worker counts when it has booted, is to stay, and its heartbeat is younger than gunicorn's timeout, if any."""
    worker = booting[0]
    master.forking(worker)
    member = master.member(worker)
    assert member is not None
    worker.tmp.notify()
    assert not master.is_ready()
    member.lease.slot.header[RUNNING_AT] = 1.0
    assert master.is_ready()
    old = time.monotonic() - 31.0
    os.utime(worker.tmp.fileno(), (old, old))
    assert not master.is_ready()
    master.server.timeout = 0
    assert master.is_ready()
    member.stop_reason = ExitReason.RELOAD
    assert not master.is_ready()
    member.stop_reason = None
    member.lease.slot.header[QUIT_AT] = 1.0
    assert not master.is_ready()
