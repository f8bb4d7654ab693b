"""The faults: each event of a plan, done to a server."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import psutil
import requests

from tests.helpers.places import TOP
from tests.helpers.servers import eventually
from tests.soak.plan import WORKER_TIMEOUT, Event, Fault, Plan
from tests.soak.server import WAIT, SoakServer, alive

MASTER_DESCRIPTORS, WORKER_DESCRIPTORS = 14, 24
"""How many more files a master and a worker may open while descriptors are few.

A worker forked meanwhile begins with the limit of the master. It needs some for its event loop, or gunicorn halts, and
one for each client.
"""
GRACE: Final = 3.0
"""Seconds after a fault in which scrapes may still fail: the exporter tries its port again every second."""
SIGNALS: Final = {
    Fault.KILL: signal.SIGKILL,
    Fault.SEGV: signal.SIGSEGV,
    Fault.ABRT: signal.SIGABRT,
    Fault.HUP: signal.SIGHUP,
    Fault.TTIN: signal.SIGTTIN,
    Fault.TTOU: signal.SIGTTOU,
    Fault.USR1: signal.SIGUSR1,
}


@dataclass
class Window:
    """The time in which a fault lasted; ``end`` is infinite while it does."""

    fault: Fault
    start: float
    end: float = float("inf")


class Faults:
    """Threads that execute the plan, one for each lane.

    Attributes:
        windows: when each fault lasted.
        done: how often each fault was done.
        skipped: faults that cannot be done here, with the reason.
        problems: faults after which the server did not do what it must.
    """

    def __init__(self, server: SoakServer, plan: Plan, spare_port: int) -> None:
        self.windows: list[Window] = []
        self.done: Counter[str] = Counter()
        self.skipped: dict[str, str] = {}
        self.problems: list[str] = []
        self._server, self._plan, self._spare_port = server, plan, spare_port
        self._threads = [threading.Thread(target=self._run, args=(lane,)) for lane in plan.lanes]
        self._start = 0.0
        self._exclusive = threading.Lock()
        """Held by what the plan keeps apart, on a machine on which it takes longer than planned."""
        self._wall_clock = threading.Lock()
        """Held while a master ends: gunicorn's deadline for that is on the wall clock, and a step moves it."""
        self._do: dict[Fault, Callable[[Event], None]] = {
            Fault.KILL: self._signal_worker,
            Fault.SEGV: self._signal_worker,
            Fault.ABRT: self._signal_worker,
            Fault.PAUSE: self._pause,
            Fault.HANG: self._hang,
            Fault.HUP: self._signal_master,
            Fault.TTIN: self._signal_master,
            Fault.TTOU: self._signal_master,
            Fault.USR1: self._signal_master,
            Fault.USR2: self._upgrade,
            Fault.PORT: self._take_port,
            Fault.DISK: self._fill_disk,
            Fault.DESCRIPTORS: self._few_descriptors,
            Fault.CLOCK: self._step_clock,
            Fault.GARBAGE: self._garbage,
            Fault.METRICS_GARBAGE: self._metrics_garbage,
        }

    def start(self) -> None:
        """Begin."""
        self._start = time.monotonic()
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait until all is done."""
        for thread in self._threads:
            thread.join()

    def during(self, faults: frozenset[Fault], start: float, end: float) -> str:
        """Return the fault of these that lasted between the moments, or shortly before; empty if none did."""
        for window in list(self.windows):
            if window.fault in faults and start <= window.end + GRACE and window.start <= end:
                return window.fault.value
        return ""

    def _run(self, lane: tuple[Event, ...]) -> None:
        for event in lane:
            time.sleep(max(0.0, self._start + event.at - time.monotonic()))
            if not alive(self._server.master):
                self.problems.append(f"the master has ended before {event.fault.value} at {event.at:.1f} s")
                return
            apart = event.fault in (Fault.USR2, Fault.PORT, Fault.DESCRIPTORS)
            with self._exclusive if apart else contextlib.nullcontext():
                self._execute(event)

    def _execute(self, event: Event) -> None:
        """Do one event, and note when."""
        window = Window(event.fault, time.monotonic())
        self.windows.append(window)
        try:
            self._do[event.fault](event)
            self.done[event.fault.value] += 1
        except Exception as error:  # noqa: BLE001 - the next fault is done anyway; this one is reported
            self.problems.append(f"{event.fault.value} at {event.at:.1f} s: {type(error).__name__}: {error}")
        finally:
            window.end = time.monotonic()

    def _pick(self, event: Event, *, beating: bool = False) -> psutil.Process:
        """Return a worker; if so wanted one that has had a heartbeat and is not on its way out."""

        def choice() -> list[psutil.Process]:
            return [worker for worker in self._server.workers() if not beating or _beats(worker)]

        workers = eventually(choice, "there is a worker", WAIT)
        return workers[int(event.pick * len(workers))]

    def _signal_worker(self, event: Event) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self._pick(event).send_signal(SIGNALS[event.fault])

    def _signal_master(self, event: Event) -> None:
        self._server.master.send_signal(SIGNALS[event.fault])

    def _pause(self, event: Event) -> None:
        with contextlib.suppress(psutil.NoSuchProcess), _stopped(self._pick(event)):
            time.sleep(event.seconds)

    def _hang(self, event: Event) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            # gunicorn 27 never ends a worker that hangs before its first heartbeat: the time of its file is then one of
            # the wall clock, and in the future of the monotonic one.
            worker = self._pick(event, beating=True)
            with _stopped(worker):
                eventually(lambda: not alive(worker), "the master has killed a worker that hangs", WAIT)

    def _upgrade(self, event: Event) -> None:
        server = self._server
        old = server.upgrade()
        time.sleep(1.0)  # the old master still serves its page
        ended = threading.Event()
        thief = threading.Thread(target=self._steal, args=(ended,))
        if event.pick < 0.5 and server.metrics_port is not None:
            thief.start()
        window = Window(Fault.PORT, time.monotonic())
        self.windows.append(window)
        try:
            with self._wall_clock:
                server.end(old)
        finally:
            ended.set()
            if thief.ident is not None:
                thief.join()
        self._await_page(server.metrics_port)
        window.end = time.monotonic()

    def _steal(self, ended: threading.Event) -> None:
        """Take the metrics port if it becomes free, until a second after the master has ended."""
        with socket.socket() as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            deadline = float("inf")
            while time.monotonic() < deadline:
                if ended.is_set():
                    deadline = min(deadline, time.monotonic() + 1.0)
                with contextlib.suppress(OSError):
                    thief.bind(("127.0.0.1", self._server.metrics_port or 0))
                    thief.listen()
                    self.done["port taken at an upgrade"] += 1
                    time.sleep(1.5)  # the new master finds it taken
                    return
                time.sleep(0.002)

    def _take_port(self, event: Event) -> None:
        server, port = self._server, self._server.metrics_port
        server.set_metrics_port(self._spare_port)
        server.master.send_signal(signal.SIGHUP)
        if port is None:
            time.sleep(1.0)
            server.master.send_signal(signal.SIGHUP)
            return
        with socket.socket() as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

            def taken() -> bool:
                thief.bind(("127.0.0.1", port))
                return True

            try:
                eventually(taken, "the exporter has left its port", WAIT)
                thief.listen()
            finally:
                server.set_metrics_port(port)
                server.master.send_signal(signal.SIGHUP)
            time.sleep(1.5)  # the exporter finds it taken
        self._await_page(port)

    def _await_page(self, port: int | None) -> None:
        """Wait until the current master serves its page."""
        if port is None:
            return
        wanted = f'master="{self._server.master.pid}"'

        def served() -> bool:
            with contextlib.suppress(requests.RequestException):
                return wanted in requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
            return False

        eventually(served, "the metrics port is served again", WAIT)

    def _fill_disk(self, event: Event) -> None:
        disk = self._server.disk
        if self._skip(event.fault, disk.skipped):
            return
        disk.fill()
        time.sleep(event.seconds)
        disk.clear()

    def _few_descriptors(self, event: Event) -> None:
        masters, limited = {master.pid for master in self._server.masters}, set[int]()
        end = time.monotonic() + event.seconds
        try:
            while time.monotonic() < end:
                for process in self._all():
                    if process.pid in limited:
                        continue
                    limited.add(process.pid)
                    with contextlib.suppress(psutil.Error, OSError, ValueError):  # ValueError: it has just exited
                        highest = max(map(int, os.listdir(f"/proc/{process.pid}/fd")))
                        more = MASTER_DESCRIPTORS if process.pid in masters else WORKER_DESCRIPTORS
                        _limit(process, highest + 1 + more)
                time.sleep(0.02)
        finally:
            # A process forked meanwhile has the limit of its master: begin with the masters.
            for process in (*self._all(), *self._all()):
                with contextlib.suppress(psutil.Error, OSError):
                    _limit(process, resource.getrlimit(resource.RLIMIT_NOFILE)[0])

    def _step_clock(self, event: Event) -> None:
        clock = self._server.clock
        if self._skip(event.fault, clock.skipped):
            return
        with self._wall_clock:
            clock.step(int(event.detail))
            time.sleep(event.seconds)
            clock.step(0)

    def _garbage(self, event: Event) -> None:
        self._attack(event, self._server.port)

    def _metrics_garbage(self, event: Event) -> None:
        if self._server.metrics_port is not None:
            self._attack(event, self._server.metrics_port)

    @staticmethod
    def _attack(event: Event, port: int) -> None:
        command = [sys.executable, "-m", "tests.helpers.hostile_clients", event.detail, str(port)]
        client = subprocess.Popen(command, cwd=TOP, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(event.seconds)
        finally:
            client.kill()
            client.wait()

    def _skip(self, fault: Fault, reason: str) -> bool:
        if reason:
            self.skipped[fault.value] = reason
        return bool(reason)

    def _all(self) -> list[psutil.Process]:
        found = list(self._server.masters)
        return [master for master in found if alive(master)] + self._server.workers()


def _beats(worker: psutil.Process) -> bool:
    """Return whether a worker has its heartbeat file, with a time of the monotonic clock."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{worker.pid}/fd"):
            if "/wgunicorn-" in os.readlink(entry.path):
                return 0.0 <= time.monotonic() - os.stat(entry.path).st_mtime < WORKER_TIMEOUT
    return False


@contextlib.contextmanager
def _stopped(worker: psutil.Process) -> Iterator[None]:
    """Stop a worker, and continue it at the end."""
    worker.suspend()
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.resume()


def _limit(process: psutil.Process, number: int) -> None:
    hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (min(number, hard), hard))
