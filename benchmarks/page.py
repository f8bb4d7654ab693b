"""What a scrape takes: size of the page, CPU time and peak memory, by endpoints and methods.

Run as ``python -m benchmarks.page``, each line in a process of its own. It renders the page of two workers that have
counted requests for every endpoint and method, as the exporter does, without HTTP.
"""

from __future__ import annotations

import gzip
import resource
import subprocess
import sys
import time

from gunicorn_prom_hooks.concurrency import ForkLock
from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.exporter.http import METRICS, RenderKey
from gunicorn_prom_hooks.exporter.renderer import Renderer
from gunicorn_prom_hooks.shm.slot import Slot
from gunicorn_prom_hooks.worker.recording.recorder import METHODS, Recorder
from tests.helpers.snapshots import SimulatedServer

SIZES = ((200, 1), (1000, 1), (2000, 1), (10_000, 1))
"""Endpoints, and methods of each."""
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
    least, body = 1e9, b""
    for _ in range(REPEATS):
        start = time.process_time()
        [reply] = renderer.render([RenderKey(METRICS, TEXT, gzip=False)]).values()
        least, body = min(least, time.process_time() - start), reply.body
    assert not errors.counts
    return body, least


def main() -> None:
    """Print one line for each size, or measure the one that the arguments give."""
    if len(sys.argv) == 3:
        body, seconds = render(*map(int, sys.argv[1:]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        compressed = len(gzip.compress(body, compresslevel=1))
        print(
            f"{int(sys.argv[1]):7,} endpoints, {sys.argv[2]} methods: page {len(body) / 1e6:6.1f} MB,"
            f" gzip {compressed / 1e6:5.2f} MB, CPU {seconds:6.2f} s, peak memory {peak / 1000:5.0f} MB"
        )
        return
    for endpoints, methods in SIZES:
        subprocess.run([sys.executable, "-m", "benchmarks.page", str(endpoints), str(methods)], check=True)


if __name__ == "__main__":
    main()
