"""After thousands of worker generations under load: scrape time, memory and open files of the master as at first."""

from __future__ import annotations

import http.client
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.server import free_port, gunicorn

CONFIG = """
workers = 8
max_requests = 3
from gunicorn_prom_hooks import install
install(globals(), port={port})
"""
FIRST = 20


def scrape(port: int) -> tuple[float, str]:
    """Seconds that a scrape takes, and the page."""
    start = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    connection.close()
    return time.perf_counter() - start, page


def generations(port: int) -> int:
    """Workers that have ended."""
    lines = scrape(port)[1].splitlines()
    return int(
        sum(float(line.split()[1]) for line in lines if line.startswith("gunicorn_master_worker_restart_total{"))
    )


def figures(master: psutil.Process, port: int) -> tuple[float, float, int, int]:
    """Milliseconds per scrape (median of 30), resident megabytes, open files, samples on the page."""
    took = statistics.median(scrape(port)[0] for _ in range(30)) * 1000
    page = scrape(port)[1]
    samples = sum(1 for line in page.splitlines() if not line.startswith("#"))
    return took, master.memory_info().rss / 1e6, master.num_fds(), samples


def measure(wanted: int) -> dict[int, tuple[float, float, int, int]]:
    """The figures after the first generations and after all of them; the load pauses for the measuring."""
    port = free_port()
    results = {}
    with tempfile.TemporaryDirectory() as folder, gunicorn(Path(folder), CONFIG.format(port=port)) as (process, app):
        master = psutil.Process(process.pid)
        for goal in (FIRST, wanted // 2, wanted):
            while generations(port) < goal:
                seconds = 1 if goal == FIRST else 5
                subprocess.run(
                    ["wrk", "-t1", "-c4", f"-d{seconds}s", f"http://127.0.0.1:{app}/items/7"],
                    check=True,
                    capture_output=True,
                )
            deadline = time.monotonic() + 10
            while 'gunicorn_workers{state="running"} 8.0' not in scrape(port)[1] and time.monotonic() < deadline:
                time.sleep(0.1)
            results[generations(port)] = figures(master, port)
    return results


def main() -> None:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print("worker generations   scrape     memory of the master   open files   samples")
    for generation, (took, memory, files, samples) in measure(wanted).items():
        print(f"{generation:18} {took:6.1f} ms {memory:19.1f} MB {files:12} {samples:9}")


if __name__ == "__main__":
    main()
