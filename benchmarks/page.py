"""What a scrape takes: size of the page, CPU time and peak memory, by endpoints and methods.

Each size is measured in a process of its own. It renders the page of two workers that have
counted requests for every endpoint and method, as the exporter does, without HTTP.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.counts import WrongCountError
from benchmarks.options import Options
from gunicorn_prom_hooks.collectors import runner
from gunicorn_prom_hooks.concurrency import ForkLock
from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.exporter.http import METRICS, RenderKey
from gunicorn_prom_hooks.exporter.renderer import Renderer
from gunicorn_prom_hooks.shm.slot import Slot
from gunicorn_prom_hooks.worker.recording.recorder import METHODS, Recorder
from tests.helpers.snapshots import SimulatedServer

SIZES = ((200, 1), (1000, 1), (2000, 1), (10_000, 1))
"""Endpoints, and methods of each."""
QUICK_SIZES = ((10, 1), (200, 1))
REPEATS = 3
TEXT = "text/plain; version=0.0.4; charset=utf-8"


def render(endpoints: int, methods: int) -> tuple[bytes, float]:
    """Return the page and the least CPU time in seconds that it took."""
    server = SimulatedServer()
    server.allocator._make_slot = lambda: Slot(65536 + 1024 * endpoints, 65536 + 4096 * endpoints)  # noqa: SLF001 - the helper's slots are for tests with few endpoints
    for age in (1, 2):
        lease, _ = server.add_worker(age)
        recorder = Recorder(lease.slot, endpoints)
        for method in sorted(METHODS)[:methods]:
            for number in range(endpoints):
                row = recorder.row(method, recorder.endpoint(f"/api/v1/resource/{number:05}"), 200, 0, 1)
                lease.slot.words[row.at + 3 + number % 8] += 1.0
    errors = ErrorReporter()
    renderer = Renderer(server.metrics_page(errors), None, ForkLock(lambda: None), errors)
    runner.SCRAPE_SECONDS = 600.0  # type: ignore[misc]  # however slow the machine is, the page is to be complete
    least, body = 1e9, b""
    for _ in range(REPEATS):
        start = time.process_time()
        [reply] = renderer.render([RenderKey(METRICS, TEXT, gzip=False)]).values()
        least, body = min(least, time.process_time() - start), reply.body
    assert not errors.counts
    return body, least


@dataclass(frozen=True)
class Page:
    """A page of this many endpoints.

    Attributes:
        endpoints: of the application.
        methods: of each.
        size: MB.
        compressed: MB, as sent to Prometheus.
        cpu: seconds of CPU.
        peak_memory: MB.
    """

    endpoints: int
    methods: int
    size: float
    compressed: float
    cpu: float
    peak_memory: float


def in_this_process(endpoints: int, methods: int) -> Page:
    """Render the page of this many endpoints. Raise unless each is on it."""
    body, seconds = render(endpoints, methods)
    if body.count(b'\ngunicorn_requests_total{endpoint="/api/') != endpoints * methods:
        raise WrongCountError(f"not all of {endpoints} endpoints are on the page")
    # Not ru_maxrss, which has the memory of the process that started this one.
    [peak] = [int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
    return Page(
        endpoints, methods, len(body) / 1e6, len(gzip.compress(body, compresslevel=1)) / 1e6, seconds, peak / 1000
    )


def measure(options: Options) -> list[Page]:
    """Render a page of each size, each in a process of its own."""
    found = []
    for endpoints, methods in options.pick(SIZES, QUICK_SIZES):
        command = [sys.executable, "-m", "benchmarks.page", str(endpoints), str(methods)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        page = Page(**json.loads(done.stdout))
        found.append(page)
        print(
            f"  {page.endpoints:7,} endpoints, {page.methods} methods: page {page.size:6.1f} MB, gzip "
            f"{page.compressed:5.2f} MB, CPU {page.cpu:6.2f} s, peak memory {page.peak_memory:5.0f} MB",
            flush=True,
        )
    return found


if __name__ == "__main__":
    print(json.dumps(asdict(in_this_process(int(sys.argv[1]), int(sys.argv[2])))))
