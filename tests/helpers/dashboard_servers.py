"""Two servers for the dashboard, one with threads and one with event loops, a load on both, and a Prometheus."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import requests
from websockets.sync.client import connect

from tests.helpers.blocking_apps import connected, get
from tests.helpers.grafana import Grafana
from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Samples, Server, eventually, running, unused_port
from tests.helpers.worker_exits import hanging

CONFIG = """
from gunicorn_prom_hooks import install
bind = "127.0.0.1:PORT"
control_socket_disable = True
timeout = 120
install(globals(), port=METRICS_PORT)
"""
THREADS = CONFIG + "worker_class = 'gthread'\nworkers = 2\nthreads = 4\nproc_name = 'shop'\n"
LOOPS = CONFIG + "worker_class = 'asgi'\nworkers = 2\nproc_name = 'search'\n"
SHOP = (*("/order", "/order/7", "/set/3") * 14, *("/report",) * 4, "/boom", "/503", "/missing")
SEARCH = (*("/search/1", "/search/2", "/stream") * 12, "/boom", "/status/503", "/nowhere", "/late")
WAITING = 6
"""The clients that wait at each full server."""
MALFORMED = b"NO REQUEST\r\n\r\n"


class Servers:
    """The two servers under load, and the Prometheus that scrapes them.

    Args:
        stack: ends them.
        folder: an empty folder.
        every: the interval of scrapes, in seconds.
        pause: the mean pause between two requests of a client, in seconds.
    """

    def __init__(self, stack: ExitStack, folder: Path, *, every: int = 1, pause: float = 0.05) -> None:
        self.shop = stack.enter_context(Server(folder / "shop", app=APPLICATIONS / "busy_shop.py", config=THREADS))
        self.search = stack.enter_context(Server(folder / "search", app=APPLICATIONS / "busy_asgi.py", config=LOOPS))
        self.prometheus = _prometheus(stack, folder, every, [self.shop.metrics_port, self.search.metrics_port])
        self.grafana = Grafana(self.prometheus, 4 * every)
        self.pause = pause
        self._done = threading.Event()
        threads = [threading.Thread(target=self._load, args=(self.shop, SHOP, n)) for n in range(3)]
        threads += [threading.Thread(target=self._load, args=(self.search, SEARCH, n)) for n in range(3)]
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        stack.callback(self._done.set)
        stack.enter_context(connect(f"ws://127.0.0.1:{self.search.port}/"))

    def _load(self, server: Server, paths: tuple[str, ...], seed: int) -> None:
        """Send requests until the servers end: most of them ordinary ones, some broken off or malformed."""
        chosen = random.Random(seed)
        with requests.Session() as session:
            while not self._done.wait(chosen.expovariate(1 / self.pause)):
                with contextlib.suppress(OSError):
                    kind = chosen.random()
                    if kind < 0.02:
                        server.send(MALFORMED)
                    elif kind < 0.04:
                        _give_up(server, "/report" if server is self.shop else "/stream")
                    else:
                        stamp = f"t={time.time() - chosen.expovariate(100):.3f}"
                        url = f"http://127.0.0.1:{server.port}{chosen.choice(paths)}"
                        session.post(url, data=b"x" * 300, headers={"X-Request-Start": stamp}, timeout=20)

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Block all threads of one server and all event loops of the other. Let clients wait at both."""
        with ExitStack() as stack:
            for server in (self.shop, self.search):
                file = server.folder / "block"
                file.touch()
                stack.callback(file.unlink, missing_ok=True)
                eventually(partial(_fill, stack, server), "the server is full")
                for _ in range(WAITING):
                    _wait_at(stack, server)
            yield

    def crash(self) -> None:
        """Kill a worker of each server by a signal, in the middle of a request that hangs."""
        for server in (self.shop, self.search):
            with hanging(server, "/hang"):
                os.kill(_hanging_worker(server), signal.SIGSEGV)
                eventually(
                    lambda server=server: server.scrape().sum("gunicorn_killed_requests_total", endpoint="/hang"),  # type: ignore[misc]
                    "the request was killed",
                )


def _wait_at(stack: ExitStack, server: Server) -> None:
    """Send a request that blocks its thread or event loop, or waits for one."""
    stack.enter_context(connected(socket.AF_INET, ("127.0.0.1", server.port), get("/block")))


def _fill(stack: ExitStack, server: Server) -> bool:
    """Send a further request if the server is not full. Return whether it has been full for some time."""
    samples = server.scrape()
    if not _is_full(samples, 0.02):
        _wait_at(stack, server)
    return _is_full(samples, 0.5)


def _is_full(samples: Samples, seconds: float) -> bool:
    """Say whether each event loop has been blocked for so long, or each thread has a request, the oldest since then."""
    loops = [blocked for _, blocked in samples.all("gunicorn_worker_event_loop_blocked_seconds")]
    if loops:
        return len(loops) == 2 and min(loops) >= seconds
    ages = [age for _, age in samples.all("gunicorn_worker_oldest_request_seconds")]
    in_progress = samples.one("gunicorn_requests_in_progress")
    return in_progress == samples.one("gunicorn_requests_capacity") == 8 and min(ages) >= seconds


def _hanging_worker(server: Server) -> int:
    """Wait for a worker with a request that takes longer than those of the load. Return its pid."""

    def probe() -> int | None:
        samples = server.scrape()
        for labels, value in samples.all("gunicorn_worker_oldest_request_seconds"):
            if value > 1.0:
                [(info, _)] = samples.all("gunicorn_worker_info", worker_id=labels["worker_id"])
                return int(info["pid"])
        return None

    return eventually(probe, "a worker has a request that hangs")


def _give_up(server: Server, path: str) -> None:
    """Send a request, and reset the connection before the end of the response."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(get(path))
        time.sleep(0.05)  # as a client does whose user goes elsewhere; the request has begun by then
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def _prometheus(stack: ExitStack, folder: Path, every: int, ports: list[int]) -> str:
    """Start a Prometheus that scrapes these ports. Return its URL."""
    scrape = {"job_name": "gunicorn", "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
    intervals = {"scrape_interval": f"{every}s", "evaluation_interval": f"{every}s"}
    (folder / "prometheus.yml").write_text(json.dumps({"global": intervals, "scrape_configs": [scrape]}))
    port = unused_port()
    command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    stack.enter_context(running([*command, f"--web.listen-address=127.0.0.1:{port}"], folder, folder / "log"))
    return f"http://127.0.0.1:{port}"
