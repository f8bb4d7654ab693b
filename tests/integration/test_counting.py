"""Every request answered is counted, once, through any number of worker generations."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.helpers.places import HELPERS
from tests.helpers.servers import Server, eventually
from tests.integration.conftest import Serve

SCRIPT = HELPERS / "count.lua"
EACH = 250
SECONDS = 20
"""wrk ends no sooner, and what it is still waiting for then would not be in its count."""


def answered(server: Server, pause: int) -> int:
    """Load the server with four connections, each until it has had so many responses; return how many there were.

    The pause is that before each request, in milliseconds.
    """
    out = subprocess.run(
        [
            "wrk",
            "-t4",
            "-c4",
            f"-d{SECONDS}s",
            "-s",
            str(SCRIPT),
            f"http://127.0.0.1:{server.port}/items/7",
            "--",
            str(EACH),
            str(pause),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=SECONDS + 60,
    ).stdout
    found = re.search(r"(\d+) requests in", out)
    assert found is not None, out
    return int(found[1])


@pytest.mark.needs("wrk")
@pytest.mark.parametrize("worker", ["sync", "gthread", "gevent"])
def test_every_answered_request_is_counted_over_many_generations(serve: Serve, worker: str) -> None:
    """What wrk got answered over dozens of generations of four workers is what the page says, to the last one."""
    server = serve(
        f"workers = 4\nworker_class = {worker!r}\nthreads = {4 if worker == 'gthread' else 1}\nmax_requests = 50\n"
    )
    first = server.settled(1).sum("gunicorn_requests_total")
    # gevent looks once a second whether to go, and takes connections until then: no worker may get most of the load.
    total = answered(server, pause=40 if worker == "gevent" else 0) + first
    assert total >= 4 * EACH
    samples = server.settled(total)
    assert samples.sum("gunicorn_requests_total") == total
    assert samples.sum("gunicorn_request_duration_seconds_count") == total
    assert samples.sum("gunicorn_request_size_bytes_count") == total
    assert samples.sum("gunicorn_response_size_bytes_count") == total
    assert samples.sum("gunicorn_requests_total", endpoint="/items/:id", status="200") == total - first
    least = 4 if worker == "gevent" else total // 50 - 4
    eventually(
        lambda: server.scrape().one("gunicorn_master_worker_restart_total", reason="restart") >= least,
        f"at least {least} workers were replaced",
    )
    assert server.scrape().sum("gunicorn_exporter_errors_total") == 0


@pytest.mark.needs("wrk")
def test_counters_never_decrease_while_workers_are_replaced(serve: Serve) -> None:
    """Counters over all workers only grow from scrape to scrape, and each new worker's own start at zero."""
    server = serve("workers = 3\nmax_requests = 40\n")
    load = subprocess.Popen(
        ["wrk", "-t1", "-c3", "-d60s", f"http://127.0.0.1:{server.port}/items/7"], stdout=subprocess.DEVNULL
    )
    before: dict[object, float] = {}
    seen: dict[str, float] = {}

    def look() -> None:
        samples = server.scrape()
        for key, value in samples.values.items():
            name = key[0]
            labels = dict(key[1])
            if name.endswith(("_total", "_count", "_bucket")) and "worker_id" not in labels:
                assert value >= before.get(key, 0.0), key
                before[key] = value
        for labels, value in samples.all("gunicorn_worker_requests_total"):
            assert value <= 40
            assert value >= seen.get(labels["worker_id"], 0.0)
            seen[labels["worker_id"]] = value

    try:
        for _ in range(21):
            look()
        while len(seen) <= 10 and load.poll() is None:
            look()
    finally:
        load.kill()
        load.wait()
    assert len(seen) > 10
