"""The application's metrics over many generations of workers, under load."""

from __future__ import annotations

import http.client
import threading
from pathlib import Path

from tests.helpers.app_metrics_server import APP
from tests.helpers.servers import Samples, eventually
from tests.integration.conftest import Serve

GENERATIONS = 200
MAX_REQUESTS = 5
CLIENTS = 5


def client(port: int, answered: list[int]) -> None:
    """Sends its share of the requests, one after the other, and counts the answers."""
    for _ in range(GENERATIONS * MAX_REQUESTS // CLIENTS):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/order")
        answered.append(connection.getresponse().status)
        connection.close()


def test_counter_is_exact_and_files_are_bounded_over_many_worker_generations(serve: Serve) -> None:
    """Files are bounded by the workers alive at once; the counter never goes back, and ends as the clients count."""
    server = serve(f"workers = 4\nmax_requests = {MAX_REQUESTS}\n", app=APP)
    path = Path(server.get("/directory").text)
    answered: list[int] = []
    threads = [threading.Thread(target=client, args=(server.port, answered)) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    last, most_files, most_workers = 0.0, 0, 0.0
    while any(thread.is_alive() for thread in threads):
        samples = server.scrape()
        now = samples.sum("shop_orders_total")
        assert now >= last
        last = now
        most_files = max(most_files, len(list(path.glob("counter_*.db"))))
        most_workers = max(most_workers, samples.sum("gunicorn_workers"))
        for thread in threads:
            thread.join(0.05)
    assert answered == [200] * (GENERATIONS * MAX_REQUESTS)

    def probe() -> Samples | None:
        samples = server.scrape()
        return samples if samples.sum("shop_orders_total") == len(answered) else None

    samples = eventually(probe, "the counter is the clients' count")
    assert samples.one("shop_latency_seconds_count") == len(answered)
    assert samples.sum("gunicorn_worker_exits_total", reason="max_requests") >= GENERATIONS - 8
    # An exited worker keeps its slot until the exit is recorded: at times there is one more than live workers.
    assert 1 <= most_files <= 8
    assert most_workers <= 8
