"""Hostile clients at the metrics port: scrapes are answered, the application is as fast, and no resource grows."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import requests

from tests.helpers.certificates import Certificates
from tests.helpers.hostile_clients import ATTACKS
from tests.helpers.places import APPLICATIONS, HELPERS
from tests.helpers.servers import DEADLINE, Samples, Server, eventually
from tests.integration.conftest import CONFIG, Serve

ENDPOINTS = 60
MAX_FDS = 256
MAX_MEGABYTES = 100.0


@contextlib.contextmanager
def attack(name: str, port: int) -> Iterator[None]:
    """The attack goes on during the block, in a process of its own."""
    command = [sys.executable, str(HELPERS / "hostile_clients.py"), name, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield
            assert process.poll() is None
        finally:
            process.kill()


def median(ask: Callable[[], object], times: int) -> float:
    """Seconds that this takes."""
    taken = []
    for _ in range(times):
        start = time.monotonic()
        ask()
        taken.append(time.monotonic() - start)
    return statistics.median(taken)


class Figures(NamedTuple):
    """Of a server at one time: seconds, megabytes, numbers."""

    application: float
    scrape: float
    memory: float
    threads: int
    files: int

    @classmethod
    def of(cls, server: Server, scrape: Callable[[], object]) -> Figures:
        """As they are now."""
        application = median(lambda: server.get("/"), 15)
        took = median(scrape, 9)
        master = psutil.Process(server.pid)
        return cls(application, took, master.memory_info().rss / 1e6, master.num_threads(), master.num_fds())

    def is_as_good_as(self, before: Figures) -> None:
        """A scrape within a second, the application as fast; a machine that is busy otherwise has its allowance."""
        assert self.scrape < max(1.0, 10 * before.scrape)
        assert self.application < max(before.application + 0.1, 10 * before.application)


def honest(server: Server) -> Callable[[], object]:
    """Return a function that scrapes, once more where the first attempt fails."""

    def scrape() -> bool:
        return server.page().status_code == 200

    return lambda: eventually(scrape, "a scrape")


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_attack_on_the_metrics_port_leaves_scrapes_fast_and_resources_bounded(serve: Serve, name: str) -> None:
    """Before, during and after: scrapes within a second, the application as fast, memory, threads and files bounded."""
    server = serve("workers = 2\n")
    for number in range(ENDPOINTS):
        server.get(f"/e{chr(97 + number // 26)}{chr(97 + number % 26)}")
    server.settled(ENDPOINTS + 1)
    scrape = honest(server)
    before = Figures.of(server, scrape)
    with attack(name, server.metrics_port):
        during = Figures.of(server, scrape)
        peak = psutil.Process(server.pid)
        assert during.files <= before.files + MAX_FDS + 10
        assert during.threads <= before.threads + 3
        ready = f"http://127.0.0.1:{server.metrics_port}/readyz"
        # With slow clients at every place, a new one may be turned away.
        eventually(lambda: requests.get(ready, timeout=10).status_code == 200, "it is ready")
        start = time.monotonic()
        server.signal(signal.SIGTTIN)
        eventually(lambda: server.log.count("Booting worker") == 3 or None, "a worker more")
        added = time.monotonic() - start
        assert peak.memory_info().rss / 1e6 <= before.memory + MAX_MEGABYTES
    eventually(lambda: peak.num_fds() <= before.files + 2, "everything is closed again")
    after = Figures.of(server, scrape)
    print(f"\n{name}: {before}\n{during}\n{after}\nTTIN: {added}")  # noqa: T201 - the figures, for who asks with -rP
    during.is_as_good_as(before)
    eventually(lambda: peak.num_threads() <= before.threads, "the threads have ended")
    assert after.memory <= before.memory + MAX_MEGABYTES
    assert added < 2.0
    assert server.scrape().sum("gunicorn_exporter_errors_total") == 0


def test_attack_on_the_tls_port_leaves_scrapes_fast_and_resources_bounded(serve: Serve, tmp_path: Path) -> None:
    """Over TLS too, a client that sends nonsense or nothing does not delay others."""
    certificates = Certificates(tmp_path / "certificates")
    server = serve(f"workers = 2\ninstall(globals(), port=METRICS_PORT, certfile={str(certificates.both)!r})\n")
    url = f"https://127.0.0.1:{server.metrics_port}/metrics"

    def scrape() -> bool:
        assert requests.get(url, verify=str(certificates.ca), timeout=20).status_code == 200
        return True

    eventually(scrape, "the page")
    before = Figures.of(server, scrape)
    with attack("mixed", server.metrics_port):
        during = Figures.of(server, scrape)
    print(f"\n{before}\n{during}")  # noqa: T201 - the figures, for who asks with -rP
    during.is_as_good_as(before)
    assert during.memory < before.memory + MAX_MEGABYTES
    assert during.threads <= before.threads + 3
    eventually(lambda: psutil.Process(server.pid).num_fds() <= before.files + 2, "everything is closed again")
    assert "Traceback" not in server.log


FEW_FILES = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
"""


def test_master_can_add_workers_while_idle_clients_hold_connections(serve: Serve) -> None:
    """Where a process may open few files, the master still has some for one more worker; without, it would end."""
    server = serve("workers = 1\n" + FEW_FILES)
    with attack("idle", server.metrics_port):
        master = psutil.Process(server.pid)
        eventually(lambda: master.num_fds() > 50, "it is attacked")
        for count in (2, 3, 4):
            server.signal(signal.SIGTTIN)
            eventually(lambda: len(server.workers()) == count, "a worker more")  # noqa: B023 - called at once
        honest(server)()
        assert master.num_fds() < 100
    assert server.get("/").status_code == 200


PATCHED = "import gevent.monkey\ngevent.monkey.patch_all()\n" + CONFIG
FORKS = 500
LONGEST_SCRAPE_SECONDS = 15.0
"""While 16 workers boot without pause, beside an attacker, on as few cores as there are."""
BOOTING = APPLICATIONS / "locks_after_fork.py"
QUICK = """
import os, random
random.random = lambda: 0.0  # after each fork gunicorn waits for up to 0.1 s, at random

def post_worker_init(worker):
    worker.log.info("has booted")

def worker_exit(server, worker):
    os._exit(0)  # an interpreter takes longer to leave than to boot
"""


@pytest.mark.needs("wrk")
@pytest.mark.parametrize(
    ("config", "preload"), [(CONFIG, False), (CONFIG, True), (PATCHED, False)], ids=["plain", "preload", "patched"]
)
def test_no_worker_hangs_in_500_forks_during_an_attack(
    serve: Serve, tmp_path: Path, config: str, preload: bool
) -> None:
    """In 500 forks, with hostile and honest clients at the port, over TLS, no worker hangs: all boot, and all serve."""
    certificates = Certificates(tmp_path / "certificates")
    install = f"install(globals(), port=METRICS_PORT, certfile={str(certificates.both)!r}, worker_label='slot')\n"
    more = f"workers = 16\nmax_requests = 1\ntimeout = 20\npreload_app = {preload}\nloglevel = 'info'\n" + QUICK
    quick = {"PYTHONDONTWRITEBYTECODE": ""}  # else every worker compiles what it imports
    server = serve(more + install, app=BOOTING, config=config, environ=quick)
    url = f"https://127.0.0.1:{server.metrics_port}/metrics"

    def page() -> Samples:
        headers = {"Accept-Encoding": "identity"}
        answer = requests.get(url, verify=str(certificates.ca), headers=headers, timeout=LONGEST_SCRAPE_SECONDS)
        assert answer.status_code == 200
        return Samples(answer.text)

    def scrape() -> float:
        start = time.monotonic()
        eventually(page, "a scrape", LONGEST_SCRAPE_SECONDS)
        return time.monotonic() - start

    def booting() -> int:
        return server.log.count("Booting worker")

    eventually(page, "the page")
    load = ["wrk", "-t1", "-c8", "-d300s", f"http://127.0.0.1:{server.port}/"]
    scrapes: list[float] = []
    start = time.monotonic()
    with attack("mixed", server.metrics_port), subprocess.Popen(load, stdout=subprocess.DEVNULL) as wrk:
        try:
            while booting() < FORKS and time.monotonic() < start + 5 * DEADLINE:
                scrapes.append(scrape())
        finally:
            wrk.kill()
    took, forks = time.monotonic() - start, booting()

    def whole() -> Samples | None:
        samples = page()
        return samples if samples.sum("gunicorn_workers", state="running") == 16 else None

    samples = eventually(whole, "16 workers, all running", 60)
    print(  # noqa: T201 - the figures, for who asks with -rP
        f"\n{forks} forks in {took:.1f} s; {len(scrapes)} scrapes: median {statistics.median(scrapes):.2f} s, "
        f"longest {max(scrapes):.2f} s"
    )
    assert forks >= FORKS
    assert len(scrapes) > 1
    assert max(scrapes) < LONGEST_SCRAPE_SECONDS
    assert server.log.count("has booted") == booting()
    assert "WORKER TIMEOUT" not in server.log
    ended = {
        (labels["reason"], labels["detail"]): count for labels, count in samples.all("gunicorn_worker_exits_total")
    }
    assert {reason for (reason, _), count in ended.items() if count} == {"max_requests"}
    assert sum(ended.values()) == booting() - 16
    assert samples.sum("gunicorn_exporter_errors_total") == 0
    started = booting()
    assert server.get("/").status_code == 200
    # What gunicorn sends to a worker that is only just being forked is lost on it; so the end waits for this one.
    eventually(lambda: server.log.count("has booted") > started, "one more worker has booted")


def reader(server: Server) -> Iterator[None]:
    """Reads a scrape byte by byte."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        sock.settimeout(10)
        sock.connect(("127.0.0.1", server.metrics_port))
        sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        while sock.recv(1):
            yield


SLOW = """
import time
from gunicorn_prom_hooks.collectors import MetricsPage
inner = MetricsPage.take_snapshot

def take_snapshot(self):
    open("rendering", "w").close()
    return inner(self)

def collect_from(self, snapshot):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        pass
    return ()

MetricsPage.take_snapshot, MetricsPage.collect_from = take_snapshot, collect_from
"""


def signals(server: Server) -> dict[str, float]:
    """Seconds that each signal takes; the last one ends the server."""

    def timed(number: signal.Signals, done: Callable[[], bool]) -> float:
        start = time.monotonic()
        server.signal(number)
        eventually(done, f"{number.name} is handled")
        return time.monotonic() - start

    def settled() -> None:
        # What gunicorn sends to a worker that is only just being forked is lost on it.
        started = server.log.count("Booting worker")
        eventually(lambda: server.log.count("has booted") >= started, "all workers have booted")

    assert server.process is not None
    process = server.process
    settled()
    taken = {"TTIN": timed(signal.SIGTTIN, lambda: len(server.workers()) == 2)}
    settled()
    taken["TTOU"] = timed(signal.SIGTTOU, lambda: len(server.workers()) == 1)
    taken["HUP"] = timed(signal.SIGHUP, lambda: server.log.count("Booting worker") >= 3)
    settled()
    eventually(lambda: len(server.workers()) == 1, "the old worker has gone")
    taken["USR2"] = timed(signal.SIGUSR2, lambda: server.log.count("Starting gunicorn") == 2)
    successor = psutil.Process(int(re.findall(r"\[(\d+)\] \[INFO\] Starting gunicorn", server.log)[-1]))
    eventually(lambda: len(successor.children()) == 1, "the new master has its worker")
    settled()
    successor.terminate()
    eventually(lambda: not successor.is_running(), "the new master has gone again")
    taken["TERM"] = timed(signal.SIGTERM, lambda: process.poll() is not None)
    assert process.returncode == 0
    return taken


@pytest.mark.parametrize("rendering", [False, True], ids=["read byte by byte", "being rendered"])
def test_signals_are_not_delayed_by_a_scrape_in_progress(serve: Serve, rendering: bool) -> None:
    """A scrape in progress, of whatever length, holds up no signal: TTIN, TTOU, HUP, USR2, SIGTERM at the end."""
    more = "workers = 1\ndef post_worker_init(worker): worker.log.info('has booted')\n"
    more += "install(globals(), port=METRICS_PORT)\n"
    server, control = serve(more + (SLOW if rendering else "")), serve(more)
    with contextlib.ExitStack() as stack:
        if rendering:
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.metrics_port)))
            sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            eventually((server.folder / "rendering").exists, "a rendering has begun")
        else:
            reading = reader(server)
            next(reading)
        taken = signals(server)
        expected = signals(control)
    print(f"\n{taken}\nwithout a scrape: {expected}")  # noqa: T201 - the figures, for who asks with -rP
    for name, seconds in taken.items():
        assert seconds < 1.5 + 3 * expected[name], name


HANGING = """
import os, time
from gunicorn_prom_hooks.collectors import registry
inner = registry.all_collectors

def hangs(snapshot):
    while os.path.exists("hang"):
        time.sleep(0.05)
    return ()

def all_collectors(*arguments):
    hanging = ("backlog", "worker_exits")
    return (*((name, hangs if name in hanging else collect) for name, collect in inner(*arguments)),)

registry.all_collectors = all_collectors
"""


@pytest.mark.parametrize("config", [CONFIG, PATCHED], ids=["plain", "patched"])
def test_hanging_collectors_delay_one_scrape_and_keep_one_thread_each(serve: Serve, config: str) -> None:
    """Collectors that hang cost some seconds once, then nothing; each keeps one thread until it returns."""
    server = serve("workers = 1\nmax_requests = 5\n" + HANGING, config=config)
    eventually(server.scrape, "the page")
    (server.folder / "hang").touch()
    first = median(server.page, 1)
    assert first < 8.0
    master = psutil.Process(server.pid)
    threads = min(master.num_threads() for _ in range(20))
    for _ in range(5):
        samples = server.scrape()
        assert samples.one("gunicorn_exporter_collector_success", collector="backlog") == 0
        assert samples.one("gunicorn_exporter_collector_success", collector="worker_exits") == 0
        assert samples.one("gunicorn_exporter_collector_success", collector="requests") == 1
        assert samples.one("gunicorn_requests_capacity") == 1
    assert median(server.page, 9) < min(first, 1.9)
    eventually(lambda: master.num_threads() <= threads, "no more threads than after the first page")
    for _ in range(30):
        assert server.get("/").status_code == 200  # workers come and go meanwhile
    assert server.log.count("collector_backlog failed") == 1
    os.remove(server.folder / "hang")

    def mended() -> bool:
        return server.scrape().one("gunicorn_exporter_collector_success", collector="backlog") == 1

    eventually(mended, "the collector is back")
    eventually(lambda: master.num_threads() <= threads - 2, "the threads have ended")


@pytest.mark.parametrize("config", [CONFIG, PATCHED], ids=["plain", "patched"])
def test_scrapes_leave_no_threads_files_or_memory(serve: Serve, config: str) -> None:
    """Hundreds of scrapes, each in threads of its own, leave no thread, no file and no memory behind."""
    server = serve(config=config)
    master = psutil.Process(server.pid)
    for _ in range(60):
        server.page()
    before = master.num_threads(), master.num_fds(), master.memory_info().rss
    for _ in range(300):
        server.page()
    eventually(lambda: master.num_threads() <= before[0], "the threads have ended")
    eventually(lambda: master.num_fds() <= before[1], "the sockets are closed")
    assert master.memory_info().rss < before[2] + 8e6


def test_exporter_threads_import_no_modules(serve: Serve) -> None:
    """A module that is being imported in a thread when the master forks would be locked for ever in the worker."""
    watch = """
import sys, threading

def watch(event, arguments):
    if event == "import" and threading.get_ident() != main and arguments[0] not in seen:
        seen.add(arguments[0])
        with open("imported", "a") as file:
            file.write(arguments[0] + chr(10))

main, seen = threading.get_ident(), set()
sys.addaudithook(watch)
"""
    server = serve(watch)
    for headers in ({}, {"Accept-Encoding": "gzip"}, {"Accept": "application/openmetrics-text;version=1.0.0"}):
        assert server.page(headers=headers).status_code == 200
    for path in ("/healthz", "/readyz", "/nothing", "/%zz?["):
        requests.get(f"http://127.0.0.1:{server.metrics_port}{path}", timeout=10)
    imported = server.folder / "imported"
    assert not imported.exists() or imported.read_text().split() == []
