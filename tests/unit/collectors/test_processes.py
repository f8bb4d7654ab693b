"""Memory, CPU and open files of workers, by psutil."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from gunicorn_prom_hooks.collectors.processes import MIN_SECONDS, WorkerProcesses
from tests.helpers.snapshots import Samples, SimulatedServer, one, samples


class Process:
    """A simulated process."""

    seconds = 0.0
    gone = False

    def __init__(self, pid: int) -> None:
        self.pid = pid

    @contextlib.contextmanager
    def oneshot(self) -> Iterator[None]:
        """Do nothing."""
        yield

    def cpu_times(self) -> Any:
        """Return user and system time, a quarter of it system time."""
        if self.gone:
            raise psutil.NoSuchProcess(self.pid)
        return SimpleNamespace(user=self.seconds * 0.75, system=self.seconds * 0.25)

    def memory_info(self) -> Any:
        """Return a megabyte for each hundred of the pid."""
        return SimpleNamespace(rss=self.pid * 10_000)

    def num_fds(self) -> int:
        """Return seven."""
        return 7


class Host:
    """Processes by pid, and a clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.processes: dict[int, Process] = {}
        self.looked_up: list[int] = []
        self.hidden: set[int] = set()
        """Pids of processes that are there, and of which ``/proc`` has nothing."""
        collector: Any = WorkerProcesses(
            lambda: self.now,
            self.process,  # type: ignore[arg-type]
            self.hidden.__contains__,
        )
        self.collector = collector

    def process(self, pid: int) -> Process:
        """Return the process with this pid."""
        self.looked_up.append(pid)
        if pid not in self.processes:
            raise psutil.NoSuchProcess(pid)
        return self.processes[pid]

    def scrape(self, server: SimulatedServer) -> Samples:
        """Return the collector's samples."""
        return samples(self.collector.collect(server.snapshot()))


@pytest.fixture
def host() -> Host:
    """A host with two processes."""
    host = Host()
    host.processes = {100: Process(100), 200: Process(200)}
    return host


@pytest.fixture
def server() -> SimulatedServer:
    """A server whose two workers these are, which were forked a hundred seconds ago."""
    server = SimulatedServer()
    for age in (1, 2):
        lease, _ = server.add_worker(age, 100 * age)
        lease.since = 900.0
    return server


def percent(found: Samples, age: int) -> float:
    """Return the CPU percent of a worker."""
    return one(found, "gunicorn_worker_cpu_percent", worker_id=f"worker_{age}")


def test_each_worker_has_memory_cpu_and_open_files(host: Host, server: SimulatedServer) -> None:
    """Each worker has its memory, CPU time by mode, and open files."""
    host.processes[100].seconds = 8.0
    found = host.scrape(server)
    assert one(found, "gunicorn_worker_memory_bytes", worker_id="worker_1") == 1_000_000.0
    assert one(found, "gunicorn_worker_cpu_seconds_total", worker_id="worker_1", mode="user") == 6.0
    assert one(found, "gunicorn_worker_cpu_seconds_total", worker_id="worker_1", mode="system") == 2.0
    assert one(found, "gunicorn_worker_open_fds", worker_id="worker_2") == 7.0


def test_cpu_percent_is_over_the_time_since_the_last_scrape(host: Host, server: SimulatedServer) -> None:
    """The first scrape has the average over the worker's life, each later one that since the scrape before."""
    host.processes[100].seconds = 25.0
    assert percent(host.scrape(server), 1) == pytest.approx(25.0, abs=0.1)
    host.now += 10.0
    host.processes[100].seconds += 5.0
    found = host.scrape(server)
    assert (percent(found, 1), percent(found, 2)) == (50.0, 0.0)
    host.now += 10.0
    assert percent(host.scrape(server), 1) == 0.0


def test_cpu_percent_stays_between_scrapes_close_together(host: Host, server: SimulatedServer) -> None:
    """Within MIN_SECONDS the number stays, and the time counts towards the next one."""
    host.scrape(server)
    host.now += 10.0
    host.processes[100].seconds = 10.0
    assert percent(host.scrape(server), 1) == 100.0
    host.now += MIN_SECONDS / 2
    host.processes[100].seconds += MIN_SECONDS / 4
    assert percent(host.scrape(server), 1) == 100.0
    host.now += MIN_SECONDS / 2
    assert percent(host.scrape(server), 1) == 25.0


def test_cpu_percent_of_a_new_worker_is_over_the_minimum_time(host: Host, server: SimulatedServer) -> None:
    """The first number of a very young worker is taken over at least MIN_SECONDS."""
    server.allocator.live[0].since = host.now - 0.01
    host.processes[100].seconds = 0.2
    assert percent(host.scrape(server), 1) == pytest.approx(20.0, abs=0.1)


@pytest.mark.parametrize("how", ["no such pid", "ends meanwhile"])
def test_process_that_has_exited_has_no_samples(how: str, host: Host, server: SimulatedServer) -> None:
    """A worker whose process is gone has no sample in any family; the other worker has all of its samples."""
    if how == "no such pid":
        del host.processes[100]
    else:
        host.processes[100].gone = True
    assert {dict(labels)["worker_id"] for _, labels in host.scrape(server)} == {"worker_2"}


UNREADABLE = [psutil.AccessDenied(100), psutil.NoSuchProcess(100)]
"""Of a process that is there: it may not be read, or ``/proc`` is missing or hides it."""


@pytest.mark.parametrize("error", UNREADABLE, ids=repr)
def test_workers_of_which_none_can_be_read_are_an_error(
    host: Host, server: SimulatedServer, error: psutil.Error
) -> None:
    """Where the kernel tells of no live worker, the collector fails, which is counted and logged."""
    for pid, process in host.processes.items():
        process.memory_info = raising(error)  # type: ignore[method-assign]
        host.hidden.add(pid)
    with pytest.raises(type(error)):
        host.scrape(server)


@pytest.mark.parametrize("error", [*UNREADABLE, psutil.ZombieProcess(100)], ids=repr)
def test_worker_that_cannot_be_read_leaves_the_others(host: Host, server: SimulatedServer, error: psutil.Error) -> None:
    """One worker of which the kernel does not tell is left out, as is one that has ended and is not reaped."""
    host.processes[100].memory_info = raising(error)  # type: ignore[method-assign]
    host.hidden.add(100)
    assert {dict(labels)["worker_id"] for _, labels in host.scrape(server)} == {"worker_2"}


def test_workers_that_have_all_ended_are_no_error(host: Host, server: SimulatedServer) -> None:
    """They have no samples, and nothing has failed."""
    for process in host.processes.values():
        process.memory_info = raising(psutil.ZombieProcess(100))  # type: ignore[method-assign]
    assert host.scrape(server) == {}


def raising(error: Exception) -> Callable[[], Any]:
    """Return a function that raises this error."""

    def fail() -> Any:
        raise error

    return fail


def test_process_handles_are_kept_for_live_workers_only(host: Host, server: SimulatedServer) -> None:
    """A process is looked up once per worker; a successor, with the same id or another, gets its own handle."""
    for _ in range(3):
        host.scrape(server)
        host.now += 5.0
    assert host.looked_up == [100, 200]
    server.remove_worker(server.allocator.live[0])
    host.scrape(server)
    assert list(host.collector._watched) == ["worker_2"]
    host.processes[300] = Process(300)
    server.replace_process(2, 300)
    found = host.scrape(server)
    assert host.looked_up == [100, 200, 300]
    assert one(found, "gunicorn_worker_memory_bytes", worker_id="worker_2") == 3_000_000.0


def test_real_process_has_memory_cpu_and_open_files() -> None:
    """With psutil itself, this very process has memory, CPU time and open files."""
    server = SimulatedServer()
    server.add_worker(1, os.getpid())
    found = samples(WorkerProcesses().collect(server.snapshot()))
    assert one(found, "gunicorn_worker_memory_bytes", worker_id="worker_1") > 1e6
    assert one(found, "gunicorn_worker_cpu_seconds_total", worker_id="worker_1", mode="user") > 0.0
    assert one(found, "gunicorn_worker_open_fds", worker_id="worker_1") >= 3
