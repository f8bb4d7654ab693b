"""gunicorn's dirty workers on the page: number, memory, CPU time; and processes that end while they are looked at."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from gunicorn.config import Config

from gunicorn_prom_hooks.collectors.processes import DirtyWorkers
from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Samples, Server, eventually
from tests.integration.conftest import Serve

APP = APPLICATIONS / "dirty_busy.py"

# gunicorn kills the dirty arbiter of any other server of the same name, such as that of a test next door.
DIRTY = """
dirty_workers = 2
dirty_apps = ["app:Busy"]
proc_name = "dirty-PORT"
graceful_timeout = 3
"""

FAMILIES = ("gunicorn_dirty_workers", "gunicorn_dirty_memory_bytes", "gunicorn_dirty_cpu_seconds")

needs_dirty_workers = pytest.mark.skipif(
    "dirty_workers" not in Config().settings, reason="this gunicorn has no dirty workers"
)


@pytest.fixture
def server(serve: Serve) -> Server:
    """A server with two dirty workers."""
    server = serve(DIRTY, app=APP)
    wait_for_dirty_workers(server, 2)
    return server


def wait_for_dirty_workers(server: Server, count: int) -> Samples:
    """The first scrape with so many dirty workers."""

    def probe() -> Samples | None:
        samples = server.scrape()
        return samples if samples.all("gunicorn_dirty_workers") == [({}, count)] else None

    return eventually(probe, f"{count} dirty workers")


def seconds(samples: Samples) -> float:
    """CPU time of the dirty workers."""
    return samples.sum("gunicorn_dirty_cpu_seconds_total")


def dirty_arbiter(server: Server) -> psutil.Process:
    """The dirty arbiter: the child of the master that has children of its own."""
    return next(child for child in server.workers() if child.children())


@needs_dirty_workers
def test_dirty_workers_have_number_memory_and_cpu_time(server: Server) -> None:
    """Two dirty workers are two, have memory, and use the CPU time that their application burns."""

    def measured() -> Samples:
        samples = server.scrape()
        resident = sum(worker.memory_info().rss for worker in dirty_arbiter(server).children())
        assert samples.one("gunicorn_dirty_memory_bytes") == pytest.approx(resident, rel=0.05)
        return samples

    before = eventually(measured, "the memory is that of both")
    assert before.one("gunicorn_dirty_workers") == 2
    assert before.one("gunicorn_dirty_memory_bytes") > 1e6
    assert {labels["mode"] for labels, _ in before.all("gunicorn_dirty_cpu_seconds_total")} == {"user", "system"}
    server.get("/burn/0.5").raise_for_status()
    after = server.scrape()
    assert 0.4 < seconds(after) - seconds(before) < 2.0
    assert after.one("gunicorn_dirty_cpu_seconds_total", mode="user") > 0.4


@needs_dirty_workers
def test_killed_dirty_worker_is_replaced_and_its_cpu_time_stays(server: Server) -> None:
    """A dirty worker that is killed is not counted as long as it is a zombie, is replaced, and its CPU time stays."""
    victim = int(server.get("/burn/0.5").text)
    before = server.scrape()
    assert seconds(before) > 0.4
    arbiter = dirty_arbiter(server)
    arbiter.suspend()  # it does not reap
    try:
        os.kill(victim, signal.SIGKILL)
        zombie = wait_for_dirty_workers(server, 1)
        assert psutil.Process(victim).status() == psutil.STATUS_ZOMBIE
        assert zombie.one("gunicorn_dirty_memory_bytes") < before.one("gunicorn_dirty_memory_bytes")
        assert seconds(zombie) >= seconds(before)
    finally:
        arbiter.resume()
    after = wait_for_dirty_workers(server, 2)
    assert victim not in [child.pid for child in arbiter.children()]
    assert seconds(before) <= seconds(after) < seconds(before) + 1.0
    assert seconds(after) <= seconds(server.scrape()) < seconds(before) + 1.0


@needs_dirty_workers
def test_replaced_dirty_arbiter_keeps_the_cpu_time_of_old_workers(server: Server) -> None:
    """After the dirty arbiter has been killed and replaced the new one's workers count, on top of the old CPU time."""
    server.get("/burn/0.5").raise_for_status()
    before = seconds(server.scrape())
    old = dirty_arbiter(server)
    orphans = old.children()
    try:
        old.kill()
        eventually(lambda: not old.is_running(), "the old one is reaped")
        assert before <= seconds(wait_for_dirty_workers(server, 2)) < before + 1.0
    finally:
        for orphan in orphans:
            with contextlib.suppress(psutil.NoSuchProcess):
                orphan.kill()
    eventually(lambda: not any(orphan.is_running() for orphan in orphans), "the old workers are gone")
    assert before <= seconds(server.scrape()) < before + 1.0


@needs_dirty_workers
def test_process_forked_by_a_dirty_worker_is_not_counted(server: Server) -> None:
    """A process that a dirty worker forks is not counted."""
    grandchild = psutil.Process(int(server.get("/fork").text))
    assert grandchild.parent() in dirty_arbiter(server).children()
    assert server.scrape().one("gunicorn_dirty_workers") == 2


def test_server_without_dirty_workers_has_no_dirty_families(serve: Serve) -> None:
    """A server without dirty workers has none of the families."""
    samples = serve().scrape()
    assert not {family.name for family in samples.families} & set(FAMILIES)
    assert samples.all("gunicorn_exporter_collector_success", collector="dirty") == [({"collector": "dirty"}, 1.0)]


class Child:
    """A dirty worker whose figures the test sets."""

    seconds = 0.0
    ends = False
    running = True

    @contextlib.contextmanager
    def oneshot(self) -> Iterator[None]:
        """Nothing to keep."""
        yield

    def cpu_times(self) -> Any:
        """User time only."""
        return SimpleNamespace(user=self.seconds, system=0.0)

    def status(self) -> str:
        """No zombie."""
        return psutil.STATUS_RUNNING

    def memory_info(self) -> Any:
        """A hundred bytes, or the end."""
        if self.ends:
            raise psutil.NoSuchProcess(1)
        return SimpleNamespace(rss=100)

    def is_running(self) -> bool:
        """As set."""
        return self.running


class Arbiter:
    """A dirty arbiter, the collector that looks at it, and what that sees."""

    def __init__(self) -> None:
        self.family: list[Child] = [Child(), Child()]
        self.ended = False
        process: Any = self.process
        self.collector = DirtyWorkers(process, lambda pid: False)

    def process(self, pid: int) -> Any:
        """The factory."""
        if self.ended:
            raise psutil.NoSuchProcess(pid)
        return SimpleNamespace(children=lambda: self.family)

    def look(self, pid: int = 7) -> list[float]:
        """Number, memory, user and system time."""
        view: Any = SimpleNamespace(dirty_arbiter_pid=pid, created=lambda: None)
        return [sample.value for family in self.collector.collect(view) for sample in family.samples]


def test_worker_that_ends_while_it_is_read_keeps_its_cpu_time() -> None:
    """A worker that ends while it is looked at is not counted, but its CPU time is; one that is gone stays in it."""
    arbiter = Arbiter()
    first, second = arbiter.family
    first.seconds, second.seconds = 3.0, 4.0
    assert arbiter.look() == [2, 200, 7.0, 0.0]
    second.seconds, second.ends = 5.0, True
    assert arbiter.look() == [1, 100, 8.0, 0.0]
    second.running, arbiter.family = False, [first]
    assert arbiter.look() == [1, 100, 8.0, 0.0]
    assert len(arbiter.collector._last) == 1


def test_arbiter_that_ends_while_it_is_read_keeps_cpu_time_of_its_workers() -> None:
    """Where the arbiter has just ended no worker is counted, and the CPU time stays; without one there is nothing."""
    arbiter = Arbiter()
    arbiter.family[0].seconds = 3.0
    assert arbiter.look() == [2, 200, 3.0, 0.0]
    arbiter.ended = True
    assert arbiter.look() == [0, 0, 3.0, 0.0]
    assert arbiter.look(pid=0) == []
    arbiter.ended = False
    assert arbiter.look() == [2, 200, 3.0, 0.0]


def test_worker_missing_in_one_scrape_is_not_added_twice() -> None:
    """A living worker that is missing among the children for once is not added up twice."""
    arbiter = Arbiter()
    first, second = arbiter.family
    first.seconds, second.seconds = 3.0, 4.0
    assert arbiter.look() == [2, 200, 7.0, 0.0]
    arbiter.family = [first]
    assert arbiter.look() == [1, 100, 7.0, 0.0]
    arbiter.family = [first, second]
    assert arbiter.look() == [2, 200, 7.0, 0.0]


def test_cpu_time_never_decreases_by_rounding() -> None:
    """With workers that come, work and go the counter never loses even a rounding error: that would be a reset."""
    arbiter = Arbiter()
    shown = 0.0
    for round_ in range(300):
        arbiter.family[round_ % 2].running = False
        arbiter.family[round_ % 2] = Child()
        for number, child in enumerate(arbiter.family):
            child.seconds += 0.01 * (round_ * 7 % 13 + number)
        seconds = arbiter.look()[2]
        arbiter.family[1].ends = round_ % 3 == 0
        assert arbiter.look()[2] >= seconds >= shown
        shown = seconds


def test_psutil_handles_of_one_process_are_equal_before_and_after_its_end() -> None:
    """The collector relies on it: two psutil handles of one process are one key, before and after its end."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        one = psutil.Process(child.pid)
        assert {one: 1}[psutil.Process(child.pid)] == 1
        child.kill()
        eventually(lambda: one.status() == psutil.STATUS_ZOMBIE, "it is a zombie")
        assert {one: 1}[psutil.Process(child.pid)] == 1
    assert not one.is_running()
