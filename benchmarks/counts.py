"""How many requests a server has counted: proof that a benchmark measures what it says."""

from __future__ import annotations

import contextlib
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

UNFINISHED = 8
"""Requests that wrk may have sent, and not counted, at the end of a run."""


class WrongCountError(Exception):
    """A server has not counted the requests that were sent."""


def check_count(what: str, counted: float, sent: int, *, lost: float = 0.0) -> None:
    """Raise unless this many requests were counted.

    Args:
        what: is measured.
        counted: by the server.
        sent: that wrk has had an answer to.
        lost: the share that may be missing.
    """
    if not sent * (1 - lost) <= counted <= sent + UNFINISHED:
        raise WrongCountError(f"{what}: {sent} requests were sent, {counted:.0f} counted")


def total(families: list[Metric], name: str) -> float:
    """Return the sum of all samples with this name."""
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


def page_of(port: int) -> list[Metric]:
    """Return the families on the page at this port."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as response:
        return list(text_string_to_metric_families(response.read().decode()))


def files_of(folder: Path) -> list[Metric]:
    """Return the families in the files of prometheus_client's multiprocess mode."""
    if not any(folder.iterdir()):
        return []
    collector = MultiProcessCollector(CollectorRegistry(), str(folder))  # type: ignore[no-untyped-call]
    return list(collector.collect())  # type: ignore[no-untyped-call]


class StatsdSink:
    """Datagrams of gunicorn's statsd.

    Attributes:
        port: that they are sent to.
        requests: how many of them say that a request was served.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.port: int = sock.getsockname()[1]
        self.requests = 0

    def receive(self) -> None:
        """Count datagrams until an empty one comes."""
        received = self._sock.recv
        while datagram := received(512):
            if datagram.startswith(b"gunicorn.requests:"):
                self.requests += 1


@contextlib.contextmanager
def statsd_sink() -> Iterator[StatsdSink]:
    """Receive datagrams until the end of the block."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        sock.bind(("127.0.0.1", 0))
        sink = StatsdSink(sock)
        thread = threading.Thread(target=sink.receive)
        thread.start()
        try:
            yield sink
        finally:
            sock.sendto(b"", sock.getsockname())
            thread.join()
