"""The sample config for nginx: valid, and the queue time is what clients have waited."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests

from tests.helpers.blocking_apps import ASGI, WSGI, blocked, waiting
from tests.helpers.nginx import SAMPLE, check, nginx, write_config
from tests.helpers.servers import Server, eventually, unused_port
from tests.integration.conftest import CONFIG

pytestmark = pytest.mark.needs("nginx")

QUEUE = "gunicorn_request_queue_seconds"
CLIENTS = 8
LONGEST_SECONDS = 2.0
KINDS = {
    "sync": ("", WSGI, 1),
    "gthread": ("worker_class = 'gthread'\nthreads = 2\n", WSGI, 2),
    "asgi": ("worker_class = 'asgi'\n", ASGI, 1),
}
"""Config, application, and the number of requests that it processes at once."""


@contextmanager
def behind_nginx(folder: Path, more: str, app: Path) -> Iterator[Server]:
    """Run a gunicorn at a Unix socket, and nginx at the server's port."""
    config = CONFIG.replace('"127.0.0.1:PORT"', '"unix:gunicorn.sock"') + "timeout = 120\n" + more
    assert "unix:" in config
    server = Server(folder / "gunicorn", app=app, config=config)
    with nginx(folder / "nginx", server.port, server.folder / "gunicorn.sock"), ExitStack() as stack:
        stack.push(server)
        server.start()
        # One request reaches gunicorn. Those before it are a 502 of nginx.
        eventually(lambda: server.get("/").status_code == 200, "gunicorn answers behind nginx")
        yield server


def test_sample_passes_the_check_of_nginx(tmp_path: Path) -> None:
    """``nginx -t`` accepts the sample, and would not accept a misspelled directive."""
    done = check(write_config(tmp_path / "sample", unused_port(), tmp_path / "sock"))
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr
    misspelled = SAMPLE.read_text().replace("proxy_set_header X-Request-Start", "proxy_set_headers X-Request-Start")
    done = check(write_config(tmp_path / "misspelled", unused_port(), tmp_path / "sock", misspelled))
    assert 'unknown directive "proxy_set_headers"' in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("kind", KINDS)
def test_queue_time_is_what_clients_have_waited_behind_nginx(kind: str, tmp_path: Path) -> None:
    """While all workers are busy, clients wait in the queue. The sum of the queue time is the sum of their waits."""
    more, app, capacity = KINDS[kind]
    with behind_nginx(tmp_path, more, app) as server:
        before = server.settled(1).sum(f"{QUEUE}_sum")
        # nginx replaces what a client sends: a time of long ago would be a wait of 1000 s.
        forged = {"X-Request-Start": f"t={time.time() - 1000}"}

        def request(number: int) -> float:
            start = time.monotonic()
            response = server.get("/", headers=forged)
            assert response.text == "ok"
            return time.monotonic() - start

        with ThreadPoolExecutor(CLIENTS) as clients:
            with blocked(server, socket.AF_INET, ("127.0.0.1", server.port), capacity):
                start = time.monotonic()
                sent = [clients.submit(request, number) for number in range(CLIENTS)]
                eventually(lambda: sum(waiting(server.scrape())) == CLIENTS, "all clients wait")
                eventually(lambda: time.monotonic() - start > LONGEST_SECONDS, "they have waited for some time")
            waited = [future.result() for future in sent]
        samples = server.settled(1 + CLIENTS + capacity)
        assert samples.sum(f"{QUEUE}_count") == 1 + CLIENTS + capacity
        assert min(waited) > 0.5
        queued = samples.sum(f"{QUEUE}_sum") - before
        # The rest is the way of the response, and that nginx has the time in milliseconds.
        assert 0.9 * sum(waited) < queued < sum(waited) + 0.2
        print(f"{kind}: clients waited {sum(waited):.3f} s, queue time {queued:.3f} s")  # noqa: T201 - a figure


def test_metrics_are_not_proxied(tmp_path: Path) -> None:
    """Behind nginx, the paths of the metrics port are those of the application."""
    with behind_nginx(tmp_path, "", WSGI) as server:
        for path in ("/metrics", "/status.json", "/readyz"):
            assert server.get(path).text == "ok"
        assert requests.get(f"http://127.0.0.1:{server.metrics_port}/readyz", timeout=10).text != "ok"
        assert server.page().text.startswith("# HELP")
