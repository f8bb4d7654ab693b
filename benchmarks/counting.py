"""Servers whose workers count requests of many endpoints at their start, without a client and an application."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.server import free_port, gunicorn
from benchmarks.variants import HOOKS, Variant
from benchmarks.waiting import until

STATUSES = (200, 201, 400)
CONFIG = """
workers = WORKERS
preload_app = True
timeout = 300

def post_worker_init(worker):
    notify = worker.notify

    def counting():
        # At the start of the worker's loop: the hooks that record are set after post_worker_init.
        worker.notify = notify
        from benchmarks.counting import count
        count(worker, ENDPOINTS)
        with open("counted", "a") as file:
            file.write("x")
        notify()

    worker.notify = counting

"""


class Sink:
    """A socket that takes everything."""

    def sendall(self, data: bytes, flags: int = 0) -> None:
        """Take it."""


def count(worker: Any, endpoints: int) -> None:
    """In a worker: have the hooks count a request per endpoint and status, without a client and an application."""
    from gunicorn.http.parser import RequestParser
    from gunicorn.http.wsgi import create

    peer, cfg = ("127.0.0.1", 1), worker.cfg
    sink: Any = Sink()
    for number in range(endpoints):
        path = "/resource/" + "".join("abcdefghij"[int(digit)] for digit in f"{number:04}")
        for status in STATUSES:
            raw = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            request = next(RequestParser(cfg, iter([raw]), peer))
            cfg.pre_request(worker, request)
            response, environ = create(request, sink, peer, peer, cfg)
            response.start_response(f"{status} X", [("Content-Length", "2")])
            response.write(b"ok")
            cfg.post_request(worker, request, environ, response)


@dataclass(frozen=True)
class Counted:
    """A server whose workers have counted.

    Attributes:
        folder: where it runs.
        master: pid of the master.
        port: of the application.
        metrics_port: of the metrics.
    """

    folder: Path
    master: int
    port: int
    metrics_port: int


@contextlib.contextmanager
def server(variant: Variant, config: str, *, cores: tuple[int, ...] = ()) -> Iterator[Counted]:
    """Run a server with these hooks, or those of the recipe with its page served from the master."""
    metrics_port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "metrics").mkdir()
        environ = {key: value.replace("METRICS_PORT", str(metrics_port)) for key, value in variant.environ.items()}
        if variant.name != HOOKS:
            environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder / "metrics")
        text = variant.config.replace("METRICS_PORT", str(metrics_port)) + config
        if variant.name == HOOKS:  # install() stands below the hooks that it is to call
            text = config + variant.config.replace("METRICS_PORT", str(metrics_port))
        with gunicorn(folder, text, environ=environ, cores=cores) as (process, port):
            yield Counted(folder, process.pid, port, metrics_port)


@contextlib.contextmanager
def counted(variant: Variant, workers: int, endpoints: int, *, cores: tuple[int, ...] = ()) -> Iterator[Counted]:
    """Run a server, and wait until all its workers have counted."""
    config = CONFIG.replace("WORKERS", str(workers)).replace("ENDPOINTS", str(endpoints))
    with server(variant, config, cores=cores) as running:
        file = running.folder / "counted"
        until(lambda: file.exists() and file.stat().st_size >= workers, "the workers have counted")
        yield running
