"""Number, memory and CPU time of dirty workers, with processes that are the test's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from gunicorn_prom_hooks.collectors.processes import DirtyWorkers
from tests.helpers.snapshots import Samples, SimulatedServer, names, one, samples

ARBITER = 7


class Child:
    """A dirty worker; handles of it are equal by its number, as psutil's are by pid and time of creation."""

    def __init__(self, number: int, seconds: float = 0.0, *, fails: str = "", zombie: bool = False) -> None:
        self.number = number
        self.seconds = seconds
        self.fails = fails
        self.zombie = zombie
        self.running = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Child) and other.number == self.number

    def __hash__(self) -> int:
        return hash(self.number)

    @contextlib.contextmanager
    def oneshot(self) -> Iterator[None]:
        """Nothing to keep."""
        yield

    def _may_fail(self, where: str) -> None:
        if self.fails == where:
            raise psutil.NoSuchProcess(self.number)

    def cpu_times(self) -> Any:
        """Three quarters of it in user mode."""
        self._may_fail("cpu_times")
        return SimpleNamespace(user=self.seconds * 0.75, system=self.seconds * 0.25)

    def status(self) -> str:
        """As set."""
        self._may_fail("status")
        return psutil.STATUS_ZOMBIE if self.zombie else psutil.STATUS_RUNNING

    def memory_info(self) -> Any:
        """A hundred bytes."""
        self._may_fail("memory_info")
        return SimpleNamespace(rss=100)

    def is_running(self) -> bool:
        """As set."""
        return self.running


class Host:
    """A dirty arbiter, its children, and the collector that looks at them."""

    def __init__(self, *children: Child) -> None:
        self.children = list(children)
        self.arbiter_ended = False
        process: Any = self.process
        self.collector = DirtyWorkers(process)

    def process(self, pid: int) -> Any:
        """The factory."""
        if pid != ARBITER or self.arbiter_ended:
            raise psutil.NoSuchProcess(pid)
        return SimpleNamespace(children=lambda: list(self.children))

    def scrape(self, pid: int = ARBITER) -> Samples:
        """The collector's samples."""
        server = SimulatedServer()
        server.dirty_arbiter_pid = pid
        return samples(self.collector.collect(server.snapshot()))

    def look(self) -> tuple[float, float, float]:
        """Number, memory, and CPU seconds of both modes."""
        found = self.scrape()
        user, system = (one(found, "gunicorn_dirty_cpu_seconds_total", mode=mode) for mode in ("user", "system"))
        assert user == 3 * system
        return one(found, "gunicorn_dirty_workers"), one(found, "gunicorn_dirty_memory_bytes"), user + system


def test_dirty_workers_are_added_up() -> None:
    """Their number, their memory, and their CPU time by mode."""
    host = Host(Child(1, 4.0), Child(2, 8.0))
    assert host.look() == (2.0, 200.0, 12.0)
    host.children[0].seconds = 8.0
    assert host.look() == (2.0, 200.0, 16.0)


def test_without_an_arbiter_there_is_nothing() -> None:
    """A server without dirty workers has none of the families."""
    assert names(Host(Child(1)).scrape(0)) == []


def test_an_arbiter_that_has_just_ended() -> None:
    """Its workers are not counted any more, and their CPU time stays, and is not counted anew when it is back."""
    host = Host(Child(1, 4.0))
    assert host.look() == (1.0, 100.0, 4.0)
    host.arbiter_ended = True
    assert host.look() == (0.0, 0.0, 4.0)
    host.arbiter_ended = False
    assert host.look() == (1.0, 100.0, 4.0)


@pytest.mark.parametrize("fails", ["cpu_times", "status", "memory_info"])
def test_a_worker_that_ends_during_the_look(fails: str) -> None:
    """It is not counted, wherever it fails; its CPU time is, where that could still be had."""
    host = Host(Child(1, 4.0), Child(2, 8.0, fails=fails))
    assert host.look() == (1.0, 100.0, 4.0 if fails == "cpu_times" else 12.0)


def test_a_zombie() -> None:
    """A worker that has ended and is not reaped yet is not counted, but the CPU time that it still has is."""
    assert Host(Child(1, 4.0), Child(2, 8.0, zombie=True)).look() == (1.0, 100.0, 12.0)


def test_a_living_worker_that_is_missed_once() -> None:
    """A worker that lives, but is not among the children for once, does not count anew the next time."""
    first, second = Child(1, 4.0), Child(2, 8.0)
    host = Host(first, second)
    assert host.look() == (2.0, 200.0, 12.0)
    host.children = [first]
    assert host.look() == (1.0, 100.0, 12.0)
    host.children = [first, Child(2, 12.0)]
    assert host.look() == (2.0, 200.0, 16.0)


def test_workers_that_have_ended_are_forgotten() -> None:
    """The CPU time of a worker that is gone stays in the sum, and nothing else is kept of it."""
    host = Host()
    for number in range(1, 20):
        child = Child(number, 4.0)
        host.children = [child]
        assert host.look() == (1.0, 100.0, 4.0 * number)
        assert len(host.collector._last) == 1
        child.running = False


def test_a_cpu_time_that_goes_back() -> None:
    """A figure lower than the last one takes nothing away."""
    host = Host(Child(1, 8.0))
    host.look()
    host.children[0].seconds = 4.0
    assert host.look() == (1.0, 100.0, 8.0)
