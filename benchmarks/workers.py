"""What grows with the number of workers, with our hooks and without, side by side.

A sync worker's boot: CPU from its fork until it serves, and its proportional share of memory afterwards. A reload:
time from the HUP until all new workers serve. The master: its resident memory, and a scrape, after each worker has
counted requests of many endpoints with three statuses, and again after the next generation has.

The servers run one after the other, in turn: two at a time would wait for each other.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.server import free_port, gunicorn

STATUSES = (200, 201, 400)
HUPS = 3
SCRAPES = 3
CONFIG = """
import os
import time

workers = {workers}
preload_app = {preload}
timeout = 300

def post_worker_init(worker):
    line = f"{{time.process_time()}} {{time.monotonic()}}\\n"
    with open("boots", "a") as file:
        file.write(line)
    if os.path.exists("counting"):
        notify = worker.notify

        def counting():
            # At the start of the worker's loop: the hooks that record are set after post_worker_init.
            from benchmarks.workers import count
            worker.notify = notify
            count(worker, {endpoints})
            with open("counted", "a") as file:
                file.write(line)
            notify()

        worker.notify = counting
"""
OURS = """
from gunicorn_prom_hooks import install
install(globals(), port={port}, max_endpoints={endpoints})
"""
DEADLINE_SECONDS = 300.0
MB = 1024 * 1024


class Sink:
    """A socket that takes everything."""

    def sendall(self, data: bytes, flags: int = 0) -> None:
        """Takes it."""


def count(worker: Any, endpoints: int) -> None:
    """In a worker: has the hooks count a request per endpoint and status, without a client and an application."""
    from gunicorn.http.parser import RequestParser
    from gunicorn.http.wsgi import create

    peer, cfg = ("127.0.0.1", 1), worker.cfg
    assert "gunicorn_prom_hooks" in cfg.pre_request.__module__
    sink: Any = Sink()
    for number in range(endpoints):
        path = "/resource/" + "".join("abcdefghij"[int(digit)] for digit in f"{number:04}")
        for status in STATUSES:
            raw = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            request = next(RequestParser(cfg, iter([raw]), peer))
            cfg.pre_request(worker, request)
            response, environ = create(request, sink, peer, peer, cfg)
            response.start_response(f"{status} X", [("Content-Length", "2")])
            response.write(b"ok")
            cfg.post_request(worker, request, environ, response)


class Server:
    """A gunicorn whose workers write down when they have booted, and what that took."""

    def __init__(self, folder: Path, master: int, workers: int) -> None:
        self.folder = folder
        self.master = psutil.Process(master)
        self.workers = workers

    def lines(self, name: str) -> list[tuple[float, float]]:
        """CPU seconds and monotonic time of each worker that has written such a line."""
        file = self.folder / name
        lines = file.read_text().splitlines() if file.exists() else []
        return [(float(cpu), float(at)) for cpu, at in map(str.split, lines)]

    def booted(self, name: str = "boots") -> list[tuple[float, float]]:
        """Waits until another generation of workers is there, alone; its lines."""
        first = len(self.lines(name))
        first -= first % self.workers
        until(lambda: len(self.lines(name)) >= first + self.workers)
        until(lambda: len(self.master.children()) == self.workers)
        return self.lines(name)[first : first + self.workers]

    def counted(self, generations: int) -> None:
        """Waits until the workers of so many generations have counted."""
        until(lambda: len(self.lines("counted")) >= generations * self.workers)

    def hup(self) -> float:
        """Seconds from a HUP until all new workers serve."""
        start = time.monotonic()
        self.master.send_signal(signal.SIGHUP)
        return max(at for _, at in self.booted()) - start

    def pss(self) -> float:
        """Bytes of memory of a worker, its share of what it shares, in the mean."""
        return statistics.mean(child.memory_full_info().pss for child in self.master.children())


def until(is_so: Callable[[], bool]) -> None:
    """Waits."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


@contextlib.contextmanager
def server(workers: int, endpoints: int, *, ours: bool, preload: bool, port: int = 0) -> Iterator[Server]:
    """A server with so many sync workers."""
    config = (CONFIG + OURS if ours else CONFIG).format(
        workers=workers, preload=preload, endpoints=endpoints, port=port or free_port()
    )
    environ = {"PYTHONPATH": str(Path(__file__).parent.parent)}
    with tempfile.TemporaryDirectory() as name, gunicorn(Path(name), config, environ=environ) as (process, _):
        running = Server(Path(name), process.pid, workers)
        until(lambda: len(running.lines("boots")) >= workers)
        yield running


class Costs(NamedTuple):
    """Of a worker: milliseconds of CPU for its boot, megabytes; of a server: seconds for a reload."""

    boot: float
    memory: float
    hup: float


def costs(workers: int, *, ours: bool, preload: bool) -> Costs:
    """What workers cost in one server."""
    with server(workers, 200, ours=ours, preload=preload) as running:
        time.sleep(1.0)  # until all is quiet
        boot = statistics.median(cpu for cpu, _ in running.lines("boots")[:workers])
        memory = running.pss()
        return Costs(boot * 1e3, memory / MB, statistics.median(running.hup() for _ in range(HUPS)))


def compare(workers: int, starts: int) -> None:
    """Print the cost of workers, bare and with the hooks."""
    for preload in (False, True):
        both: list[list[Costs]] = [[], []]
        for _ in range(starts):
            for ours in (False, True):
                both[ours].append(costs(workers, ours=ours, preload=preload))
        bare, with_us = (Costs(*map(statistics.median, zip(*found, strict=True))) for found in both)
        print(f"{workers} sync workers, {'preloaded' if preload else 'not preloaded'}")
        print(
            f"  CPU of a boot      {bare.boot:7.1f} ms bare, {with_us.boot:7.1f} with us: "
            f"+{with_us.boot - bare.boot:.1f}"
        )
        print(
            f"  memory of a worker {bare.memory:7.2f} MB bare, {with_us.memory:7.2f} with us: "
            f"+{with_us.memory - bare.memory:.2f}"
        )
        print(
            f"  reload             {bare.hup:7.2f} s  bare, {with_us.hup:7.2f} with us: "
            f"{with_us.hup / bare.hup:.2f} times",
            flush=True,
        )


def master(workers: int, endpoints: int) -> None:
    """Prints what the master of a server costs whose workers have counted, generation after generation."""
    port = free_port()
    print(f"{workers} workers, {endpoints} endpoints, {len(STATUSES)} statuses")
    with server(workers, endpoints, ours=True, preload=True, port=port) as running:
        scrape(port)
        start = running.master.memory_info()
        print(f"  at the start          {start.rss / MB:6.1f} MB of the master")
        (running.folder / "counting").touch()
        for generation in range(1, 3):
            boot = running.hup()
            in_reload = scrape(port)
            running.counted(generation)
            first, *later = [scrape(port) for _ in range(SCRAPES + 1)]
            info = running.master.memory_info()
            print(
                f"  {generation}. generation counted {info.rss / MB:6.1f} MB, {(info.rss - start.rss) / MB:+.1f}, of "
                f"it shared {(info.shared - start.shared) / MB:+.1f}; a scrape {statistics.median(later):.2f} s, the "
                f"first {first:.2f} s, one while they boot {in_reload:.2f} s"
            )
        (running.folder / "counting").unlink()
        cpu = statistics.median(cpu for cpu, _ in (running.hup(), running.lines("boots")[-workers:])[1])
        print(f"  reload with all that  {boot:6.2f} s; CPU of a boot {cpu * 1e3:.1f} ms", flush=True)


def scrape(port: int) -> float:
    """Seconds that a scrape takes, compressed as Prometheus wants it."""
    start = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
    connection.getresponse().read()
    connection.close()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--starts", type=int, default=1)
    parser.add_argument("--endpoints", type=int, default=200)
    parser.add_argument("--only", choices=("workers", "master"))
    given = parser.parse_args()
    if given.only != "master":
        compare(given.workers, given.starts)
    if given.only != "workers":
        master(given.workers, given.endpoints)


if __name__ == "__main__":
    main()
