"""gevent: in the workers, and patched into the master by the config file."""

from __future__ import annotations

import signal
import threading

import pytest

from tests.helpers.servers import Samples, eventually
from tests.integration.conftest import CONFIG, Serve

PATCHED = "import gevent.monkey\ngevent.monkey.patch_all()\n" + CONFIG


@pytest.mark.parametrize("config", [CONFIG, PATCHED], ids=["plain", "patched"])
def test_scrapes_are_answered_by_the_master_and_not_by_a_worker(serve: Serve, config: str) -> None:
    """Each of 50 scrapes is answered by the master, where everything is counted, and not by a worker."""
    server = serve("workers = 4\nworker_class = 'gevent'\n", config=config)
    server.wait_for_workers(4)
    for number in range(50):
        assert server.get("/items/7").status_code == 200
        samples = server.settled(number + 2)
        assert samples.sum("gunicorn_workers", state="running") == 4
        assert samples.sum("gunicorn_requests_total") == number + 2
    for worker in server.workers():
        assert server.metrics_port not in {connection.laddr.port for connection in worker.net_connections()}


def test_two_hundred_concurrent_requests_are_in_progress_busy_and_then_counted(serve: Serve) -> None:
    """Hundreds of requests in progress in one worker are all there, and all gone afterwards."""
    server = serve("workers = 1\nworker_class = 'gevent'\n", config=PATCHED)
    threads = [threading.Thread(target=server.get, args=("/sleep/6",)) for _ in range(200)]
    for thread in threads:
        thread.start()
    eventually(lambda: server.scrape().one("gunicorn_requests_in_progress") == 200, "200 in progress")
    first = server.scrape()
    assert 0 < first.sum("gunicorn_worker_oldest_request_seconds") < 7

    def later() -> Samples | None:
        samples = server.scrape()
        assert samples.one("gunicorn_requests_in_progress") == 200
        return samples if change("gunicorn_worker_oldest_request_seconds", samples) > 0.5 else None

    def change(name: str, samples: Samples) -> float:
        return samples.sum(name) - first.sum(name)

    second = eventually(later, "the requests are older")
    # The oldest request's age is the clock of the page: each of all 200 is busy, with an entry in the table or without.
    seconds = change("gunicorn_worker_busy_seconds_total", second)
    assert seconds == pytest.approx(200 * change("gunicorn_worker_oldest_request_seconds", second), rel=0.01)
    for thread in threads:
        thread.join()
    samples = server.settled(201)
    assert samples.one("gunicorn_requests_in_progress") == 0
    assert samples.one("gunicorn_requests_total", endpoint="/sleep/:id") == 200
    assert samples.sum("gunicorn_request_duration_seconds_bucket", endpoint="/sleep/:id", le="2.5") == 0
    assert samples.sum("gunicorn_worker_busy_seconds_total") > 1190


@pytest.mark.parametrize("config", [CONFIG, PATCHED], ids=["plain", "patched"])
def test_scrape_is_answered_while_the_main_thread_computes(serve: Serve, config: str) -> None:
    """A real thread answers scrapes while the master's own thread computes and lets no greenlet have a turn."""
    busy = """
def on_reload(server):
    import time
    open("busy", "w").close()
    end = time.monotonic() + 4
    while time.monotonic() < end:
        pass
    open("idle", "w").close()
"""
    server = serve(
        "workers = 1\nworker_class = 'gevent'\n", config=config + busy + "install(globals(), port=METRICS_PORT)\n"
    )
    server.signal(signal.SIGHUP)
    eventually((server.folder / "busy").exists, "the master is busy")
    for _ in range(3):
        assert server.page().status_code == 200
    assert not (server.folder / "idle").exists()


@pytest.mark.parametrize(
    "request_", [b"GET /x HTTP/1.0\r\n\r\n", b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]
)
def test_last_request_of_a_connection_is_not_a_failure(serve: Serve, request_: bytes) -> None:
    """gunicorn's gevent worker ends a connection with an exception: the request has not failed for that."""
    server = serve("workers = 1\nworker_class = 'gevent'\n")
    for _ in range(5):
        assert b" 200 OK" in server.send(request_)
    samples = server.settled(6)
    assert samples.one("gunicorn_requests_total", endpoint="/x", status="200") == 5
    assert samples.sum("gunicorn_failed_requests_total") == 0
