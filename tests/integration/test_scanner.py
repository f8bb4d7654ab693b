"""A scanner asks for 200,000 different things: no memory grows with it, and each of them is counted."""

from __future__ import annotations

import random
import re
import subprocess

import psutil
import pytest

from tests.helpers.places import APPLICATIONS, HELPERS
from tests.helpers.servers import Samples, Server, eventually
from tests.integration.conftest import Serve

SCRIPT = HELPERS / "scan.lua"
APP = APPLICATIONS / "status_from_header.py"
HALF = 100_000
THREADS = 4
ROUND_SECONDS = 8
"""wrk runs for as long as it was told at its start: the threads stop a second before that."""
MEMORY = 3 * 1024 * 1024
"""Bytes: what may be an allocator's. 100,000 paths that are kept, of 60 bytes or more, would be twice that."""


def scan(server: Server, requests: int) -> int:
    """Has wrk send so many requests or some more; how many were answered, which is how many were sent."""
    answered = 0
    command = ["wrk", f"-t{THREADS}", f"-c{THREADS}", f"-d{ROUND_SECONDS}s", "--timeout", "30s", "-s", str(SCRIPT)]
    while answered < requests:
        arguments = [str(random.randrange(2**31)), str(ROUND_SECONDS - 1)]
        out = subprocess.run(
            [*command, f"http://127.0.0.1:{server.port}/", "--", *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=ROUND_SECONDS + 60,
        ).stdout
        found = re.search(r"(\d+) requests in", out)
        assert found is not None, out
        assert "Socket errors" not in out, out
        answered += int(found[1])
    return answered


def memory(server: Server) -> list[tuple[int, int]]:
    """Resident and shared bytes of the master, and of the workers: the least of several looks, each after a scrape.

    What a page was rendered in, 2 MB of it here, is sometimes given back at once and sometimes with the next one.
    """
    looks = []
    for _ in range(8):
        server.page()
        infos = [process.memory_info() for process in (psutil.Process(server.pid), *server.workers())]
        looks.append([(info.rss, info.shared) for info in infos])
    return [min(process) for process in zip(*looks, strict=True)]


def scrape_seconds(server: Server) -> float:
    """CPU time of the master for five scrapes: the clock would tell of whatever else the machine is at."""
    master = psutil.Process(server.pid)
    before = master.cpu_times()
    for _ in range(5):
        server.page()
    after = master.cpu_times()
    return (after.user - before.user) + (after.system - before.system)


def exactly(server: Server, total: int) -> Samples:
    """The page on which these requests are all counted, and nothing is in progress."""

    def probe() -> Samples | None:
        samples = server.scrape()
        counted = samples.sum("gunicorn_requests_total")
        assert counted == total, f"{counted} of {total}"
        return samples

    return eventually(probe, "the page has what wrk has")


@pytest.mark.needs("wrk")
def test_second_100000_scanner_requests_add_no_series_memory_or_scrape_time(serve: Serve) -> None:
    """The second 100,000 add no series, no memory, in master or workers, and no time to a scrape."""
    server = serve("workers = 2\nworker_class = 'gevent'\nkeepalive = 30\n", app=APP)
    server.wait_for_workers(2)
    total = 1 + scan(server, HALF)
    before = exactly(server, total)
    seconds, held = scrape_seconds(server), memory(server)
    total += scan(server, HALF)
    samples = exactly(server, total)
    assert total > 2 * HALF
    assert scrape_seconds(server) < 1.5 * seconds + 0.2
    for (rss, shared), (rss_before, shared_before) in zip(memory(server), held, strict=True):
        assert rss - rss_before < MEMORY
        assert shared - shared_before < MEMORY
    # Of the endpoints that have a name, the first 200 asked for, one or the other is asked for with a new status.
    assert len(samples.values) <= 1.1 * len(before.values)
    for name in ("gunicorn_requests_total", "gunicorn_failed_requests_total"):
        endpoints = {labels["endpoint"] for labels, _ in samples.all(name)}
        assert len(endpoints) <= 202
        assert "<other>" in endpoints
    assert {labels["method"] for labels, _ in samples.all("gunicorn_requests_total")} <= {
        *("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "<other>")
    }
    unmatched = samples.sum("gunicorn_requests_total", endpoint="<unmatched>")
    refused = sum(samples.sum("gunicorn_requests_total", status=status) for status in ("404", "405"))
    assert unmatched == refused > 0.3 * total
    folded = samples.one("gunicorn_exporter_overflowed_labels_total", label="endpoint")
    assert folded > 0.3 * total
    assert folded > before.one("gunicorn_exporter_overflowed_labels_total", label="endpoint")
    assert samples.sum("gunicorn_exporter_errors_total") == 0
    assert samples.one("gunicorn_requests_in_progress") == 0
