"""Number, memory and CPU time of dirty workers, with simulated processes."""

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
    """A simulated dirty worker; handles are equal by its number, as psutil's are by pid and time of creation."""

    def __init__(
        self,
        number: int,
        seconds: float = 0.0,
        *,
        fails: str = "",
        error: psutil.Error | None = None,
        zombie: bool = False,
    ) -> None:
        self.number = number
        self.seconds = seconds
        self.fails = fails
        self.error = error or psutil.NoSuchProcess(number)
        self.zombie = zombie
        self.running = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Child) and other.number == self.number

    def __hash__(self) -> int:
        return hash(self.number)

    @contextlib.contextmanager
    def oneshot(self) -> Iterator[None]:
        """Do nothing."""
        yield

    def _may_fail(self, where: str) -> None:
        if self.fails == where:
            raise self.error

    def cpu_times(self) -> Any:
        """Return the CPU time, three quarters of it in user mode."""
        self._may_fail("cpu_times")
        return SimpleNamespace(user=self.seconds * 0.75, system=self.seconds * 0.25)

    def status(self) -> str:
        """Return the value that is set."""
        self._may_fail("status")
        return psutil.STATUS_ZOMBIE if self.zombie else psutil.STATUS_RUNNING

    def memory_info(self) -> Any:
        """Return a hundred bytes."""
        self._may_fail("memory_info")
        return SimpleNamespace(rss=100)

    def is_running(self) -> bool:
        """Return the value that is set."""
        return self.running


class Host:
    """A dirty arbiter, its children, and the collector."""

    def __init__(self, *children: Child) -> None:
        self.children = list(children)
        self.arbiter_ended = False
        process: Any = self.process
        self.collector = DirtyWorkers(process, lambda pid: False)

    def process(self, pid: int) -> Any:
        """Return the process with this pid."""
        if pid != ARBITER or self.arbiter_ended:
            raise psutil.NoSuchProcess(pid)
        return SimpleNamespace(children=lambda: list(self.children))

    def scrape(self, pid: int = ARBITER) -> Samples:
        """Return the collector's samples."""
        server = SimulatedServer()
        server.dirty_arbiter_pid = pid
        return samples(self.collector.collect(server.snapshot()))

    def read(self) -> tuple[float, float, float]:
        """Return number, memory, and CPU seconds of both modes."""
        found = self.scrape()
        user, system = (one(found, "gunicorn_dirty_cpu_seconds_total", mode=mode) for mode in ("user", "system"))
        assert user == 3 * system
        return one(found, "gunicorn_dirty_workers"), one(found, "gunicorn_dirty_memory_bytes"), user + system


def test_dirty_workers_have_the_sums_of_memory_and_cpu_time() -> None:
    """Their number, their memory, and their CPU time by mode."""
    host = Host(Child(1, 4.0), Child(2, 8.0))
    assert host.read() == (2.0, 200.0, 12.0)
    host.children[0].seconds = 8.0
    assert host.read() == (2.0, 200.0, 16.0)


def test_server_without_a_dirty_arbiter_has_no_family() -> None:
    """A server without dirty workers has none of the families."""
    assert names(Host(Child(1)).scrape(0)) == []


def test_cpu_time_stays_while_the_dirty_arbiter_is_gone() -> None:
    """Its workers are not counted, and their CPU time stays, and is not counted anew when it is back."""
    host = Host(Child(1, 4.0))
    assert host.read() == (1.0, 100.0, 4.0)
    host.arbiter_ended = True
    assert host.read() == (0.0, 0.0, 4.0)
    host.arbiter_ended = False
    assert host.read() == (1.0, 100.0, 4.0)


@pytest.mark.parametrize("fails", ["cpu_times", "status", "memory_info"])
def test_dirty_worker_that_exits_during_the_scrape_is_not_counted(fails: str) -> None:
    """It is not counted, wherever it fails; its CPU time is, if that could still be read."""
    host = Host(Child(1, 4.0), Child(2, 8.0, fails=fails))
    assert host.read() == (1.0, 100.0, 4.0 if fails == "cpu_times" else 12.0)


def test_dirty_worker_that_may_not_be_read_leaves_the_others() -> None:
    """Where the kernel tells of some, these are counted; where it tells of none, the collector fails."""
    refused = Child(2, 8.0, fails="memory_info", error=psutil.AccessDenied(2))
    assert Host(Child(1, 4.0), refused).read() == (1.0, 100.0, 12.0)
    with pytest.raises(psutil.AccessDenied):
        Host(refused).read()


def test_zombie_counts_with_its_cpu_time_only() -> None:
    """A dirty worker that has exited and is not reaped yet is not counted, but its CPU time is."""
    assert Host(Child(1, 4.0), Child(2, 8.0, zombie=True)).read() == (1.0, 100.0, 12.0)


def test_live_dirty_worker_missed_once_is_not_counted_anew() -> None:
    """A live worker that is not among the children for once does not count anew the next time."""
    first, second = Child(1, 4.0), Child(2, 8.0)
    host = Host(first, second)
    assert host.read() == (2.0, 200.0, 12.0)
    host.children = [first]
    assert host.read() == (1.0, 100.0, 12.0)
    host.children = [first, Child(2, 12.0)]
    assert host.read() == (2.0, 200.0, 16.0)


def test_exited_dirty_workers_leave_only_their_cpu_time() -> None:
    """The CPU time of a worker that is gone stays in the sum, and nothing else is kept of it."""
    host = Host()
    for number in range(1, 20):
        child = Child(number, 4.0)
        host.children = [child]
        assert host.read() == (1.0, 100.0, 4.0 * number)
        assert len(host.collector._last) == 1
        child.running = False


def test_decreased_cpu_time_is_ignored() -> None:
    """A number lower than the last one takes nothing away."""
    host = Host(Child(1, 8.0))
    host.read()
    host.children[0].seconds = 4.0
    assert host.read() == (1.0, 100.0, 8.0)
