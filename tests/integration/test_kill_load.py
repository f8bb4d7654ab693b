"""Workers killed at random instants under load: every request is answered and counted, or killed and named."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import socket
import threading
import time

import pytest

from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Samples, Server, eventually
from tests.helpers.worker_exits import exit_lines, exits, killed
from tests.integration.conftest import Serve

KILLS = 200
APP = APPLICATIONS / "begun.py"


class Load:
    """Clients that send one request after the other, each to another path, and record the responses."""

    def __init__(self, port: int, clients: int) -> None:
        self.port = port
        self.clients = clients
        self.answered: set[str] = set()
        self.failed: set[str] = set()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, client: int) -> None:
        number = client
        while not self._stop.is_set():
            path = f"/k/{number}"
            number += self.clients
            (self.answered if self._ask(path) else self.failed).add(path)

    def _ask(self, path: str) -> bool:
        received = b""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 20) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            while chunk := sock.recv(4096):
                received += chunk
        return received.endswith(b"\r\n\r\n" + path.encode())


def monotonic(before: Samples, after: Samples) -> None:
    """No counter of a scrape is less than in the one before."""
    for family in after.families:
        if family.type in ("counter", "histogram"):
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert sample.value >= before.values.get(key, 0.0), key


def kill_some(server: Server) -> int:
    """Kills workers at random instants, and scrapes in between; the number of scrapes."""
    samples, scrapes = server.scrape(), 1
    for number in range(KILLS):
        workers = eventually(server.workers, "there is a worker")
        time.sleep(random.uniform(0.0, 0.02))  # the random instant
        victim = random.choice(workers)
        victim.send_signal(signal.SIGKILL)
        eventually(lambda: victim not in server.workers(), "the killed worker is gone")  # noqa: B023 - it is called now
        if number % 4 == 0:
            before, samples = samples, server.scrape()
            monotonic(before, samples)
            scrapes += 1
    return scrapes


@pytest.mark.parametrize(
    ("worker", "clients"),
    [("", 8), ("worker_class = 'gthread'\nthreads = 2\n", 8), ("worker_class = 'gevent'\n", 3)],
)
def test_each_request_is_counted_killed_or_refused_over_200_worker_kills(
    serve: Serve, worker: str, clients: int
) -> None:
    """Answered and counted, killed and named, or never begun: each request is one of these, over 200 kills."""
    server = serve("workers = 4\n" + worker, app=APP)
    server.wait_for_workers(4)
    with Load(server.port, clients) as load:
        assert kill_some(server) > KILLS / 5

    def probe() -> Samples | None:
        samples = server.scrape()
        return samples if exits(samples) == {("signal", "SIGKILL"): KILLS} else None

    samples = eventually(probe, "all kills are counted")
    eventually(lambda: server.scrape().one("gunicorn_requests_in_progress") == 0, "nothing is in progress")
    samples = server.scrape()
    counted = samples.sum("gunicorn_requests_total", endpoint="/k/:id")
    obits = exit_lines(server, KILLS)
    assert {how for _, how, _ in obits} == {"signal (SIGKILL)"}
    named = [path for _, _, what in obits for path in re.findall(r"GET (/k/\d+) \(", what)]
    assert "other request" not in server.log  # no worker is at more than three of them: all are named
    interrupted_requests = set(named)
    assert len(interrupted_requests) == len(named)
    assert killed(samples).get(("GET", "/k/:id", "signal"), 0) == len(named)
    assert {endpoint for _, endpoint, _ in killed(samples)} <= {"/k/:id", "/"}
    begun = set((server.folder / "begun").read_text().split())
    assert load.answered <= begun
    refused = load.failed - interrupted_requests
    assert not refused & begun
    assert counted == len(load.answered - interrupted_requests)
    assert counted + len(named) + len(refused) == len(load.answered) + len(load.failed)
    assert len(load.failed) >= len(interrupted_requests - load.answered) > 0
    assert samples.sum("gunicorn_exporter_errors_total") == 0
