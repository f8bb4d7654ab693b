"""An application's counter over hundreds of worker generations: this package and prometheus_client's recipe."""

from __future__ import annotations

import http.client
import struct
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from benchmarks.counts import WrongCountError
from benchmarks.options import Options
from benchmarks.server import free_port, gunicorn
from benchmarks.variants import HOOKS, RECIPE

WORKERS = 4
MAX_REQUESTS = 5
GENERATIONS = 500
CLIENTS = 6
COMMON = f"workers = {WORKERS}\nmax_requests = {MAX_REQUESTS}\n"
OURS = COMMON + "from gunicorn_prom_hooks import install\ninstall(globals(), port={port})\n"
RECIPE_CONFIG = COMMON + (
    "def child_exit(server, worker):\n"
    "    from prometheus_client import multiprocess\n"
    "    multiprocess.mark_process_dead(worker.pid)\n"
)


@dataclass(frozen=True)
class Figures:
    """What one way of doing it comes to.

    Attributes:
        variant: the way.
        client: requests that were answered.
        counter: what the application's counter says.
        backwards: how often the counter was less than before.
        failed: pages that could not be made. ``MultiProcessCollector`` fails at a file that a worker is just making.
        files: of metrics at the end.
        megabytes: in these.
        milliseconds: of a scrape at the end.
    """

    variant: str
    client: int
    counter: float
    backwards: int
    failed: int
    files: int
    megabytes: float
    milliseconds: float


@dataclass(frozen=True)
class AppGenerations:
    """Both ways after so many generations."""

    generations: int
    workers: int
    ways: list[Figures]


def counter_on(page: str) -> float:
    """The application's counter on this page."""
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith("shop_orders_total{"))


def load(port: int, total: int, look: Callable[[], float | None]) -> tuple[int, int, int]:
    """Send so many requests while it looks at the counter.

    Return how many were answered, how often the counter had gone back, and how often there was none to be seen.
    """
    answered = [0] * CLIENTS

    def client(number: int) -> None:
        for _ in range(total // CLIENTS):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/order")
            answered[number] += connection.getresponse().status == 200
            connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    last, backwards, failed = 0.0, 0, 0
    while any(thread.is_alive() for thread in threads):
        now = look()
        if now is None:
            failed += 1
        else:
            backwards += now < last
            last = now
        time.sleep(0.2)
    return sum(answered), backwards, failed


def once(generations: int, *, ours: bool) -> Figures:
    """The figures after so many generations of workers."""
    metrics = free_port()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder, "metrics")
        directory.mkdir()
        environ = {} if ours else {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
        config = OURS.format(port=metrics) if ours else RECIPE_CONFIG

        def page() -> str:
            if ours:
                with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=60) as response:
                    return str(response.read().decode())
            registry = CollectorRegistry()
            MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]
            return generate_latest(registry).decode()

        def look() -> float | None:
            try:
                return counter_on(page())
            except struct.error:
                return None

        with gunicorn(Path(folder), config, app="shop_wsgi", environ=environ) as (_, port):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/files", timeout=30) as response:
                directory = Path(response.read().decode())
            client, backwards, failed = load(port, generations * MAX_REQUESTS, look)
            deadline = time.monotonic() + 10
            while (look() or 0.0) < client and time.monotonic() < deadline:
                time.sleep(0.1)
            start = time.perf_counter()
            counter = counter_on(page())
            took = time.perf_counter() - start
            files = list(directory.glob("*.db"))
            size = sum(file.stat().st_blocks * 512 for file in files)
    if counter != client or not files:
        raise WrongCountError(f"{counter:.0f} counted of {client}, in {len(files)} files")
    return Figures(HOOKS if ours else RECIPE, client, counter, backwards, failed, len(files), size / 1e6, took * 1000)


def measure(options: Options) -> AppGenerations:
    """Measure both ways."""
    generations = options.pick(GENERATIONS, 20)
    ways = []
    for ours in (True, False):
        figures = once(generations, ours=ours)
        ways.append(figures)
        print(
            f"  {figures.variant:20} answered {figures.client:6}, counter {figures.counter:6.0f}, went back "
            f"{figures.backwards:4}, failed {figures.failed:4}, files {figures.files:5}, {figures.megabytes:7.1f} MB, "
            f"{figures.milliseconds:7.1f} ms",
            flush=True,
        )
    return AppGenerations(generations, WORKERS, ways)
