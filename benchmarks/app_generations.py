"""Application counter over hundreds of worker generations: gunicorn_prom_hooks and the prometheus_client recipe."""

from __future__ import annotations

import http.client
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from benchmarks.server import free_port, gunicorn

WORKERS = 4
MAX_REQUESTS = 5
CLIENTS = 6
APP = """
import os
from prometheus_client import Counter, Histogram
orders = Counter("shop_orders", "Orders.", ["kind"])
seconds = Histogram("shop_seconds", "Seconds.", ["kind"])

def app(environ, start_response):
    if environ["PATH_INFO"].startswith("/order"):
        orders.labels("plain").inc()
        seconds.labels("plain").observe(0.01)
    files = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    body = os.path.dirname(next((file for file in files if ".db" in file), "")).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""
COMMON = f"workers = {WORKERS}\nmax_requests = {MAX_REQUESTS}\n"
OURS = COMMON + "from gunicorn_prom_hooks import install\ninstall(globals(), port={port})\n"
RECIPE = COMMON + (
    "def child_exit(server, worker):\n"
    "    from prometheus_client import multiprocess\n"
    "    multiprocess.mark_process_dead(worker.pid)\n"
)


class Figures(NamedTuple):
    """What one way of doing it comes to."""

    client: int
    counter: float
    backwards: int
    files: int
    megabytes: float
    milliseconds: float


def counter_on(page: str) -> float:
    """The application's counter on this page."""
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith("shop_orders_total{"))


def load(port: int, total: int, look: Callable[[], float]) -> tuple[int, int]:
    """Sends so many requests while it looks; how many were answered, and how often what was seen had gone back."""
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
    last, backwards = 0.0, 0
    while any(thread.is_alive() for thread in threads):
        now = look()
        backwards += now < last
        last = now
        time.sleep(0.2)
    return sum(answered), backwards


def measure(generations: int, *, ours: bool) -> Figures:
    """The figures after so many generations of workers."""
    metrics = free_port()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder, "metrics")
        directory.mkdir()
        environ = {} if ours else {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
        config = OURS.format(port=metrics) if ours else RECIPE

        def page() -> str:
            if ours:
                with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=60) as response:
                    return str(response.read().decode())
            registry = CollectorRegistry()
            MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]
            return generate_latest(registry).decode()

        with gunicorn(Path(folder), config, app=APP, environ=environ) as (_, port):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as response:
                directory = Path(response.read().decode())
            client, backwards = load(port, generations * MAX_REQUESTS, lambda: counter_on(page()))
            deadline = time.monotonic() + 10
            while counter_on(page()) < client and time.monotonic() < deadline:
                time.sleep(0.1)
            start = time.perf_counter()
            counter = counter_on(page())
            took = time.perf_counter() - start
            files = list(directory.glob("*.db"))
            size = sum(file.stat().st_blocks * 512 for file in files)
    return Figures(client, counter, backwards, len(files), size / 1e6, took * 1000)


def main() -> None:
    generations = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    print(f"{generations} generations of {WORKERS} workers, an application with a counter and a histogram of its own")
    print("          answered   counter   went back   files       size     scrape")
    for name, ours in (("ours", True), ("recipe", False)):
        figures = measure(generations, ours=ours)
        print(
            f"  {name:7}{figures.client:9}{figures.counter:10.0f}{figures.backwards:12}{figures.files:8}"
            f"{figures.megabytes:8.1f} MB{figures.milliseconds:8.1f} ms"
        )


if __name__ == "__main__":
    main()
