"""Servers whose only thread or event loop is blocked for as long as a file is there, and clients that wait."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Samples, Server, eventually

WSGI = APPLICATIONS / "blocking_wsgi.py"

ASGI = APPLICATIONS / "blocking_asgi.py"

UVICORN = "uvicorn_worker.UvicornWorker"
LOOPS = {
    "asgi": (ASGI, "worker_class = 'asgi'\n"),
    "asyncio": (ASGI, "worker_class = 'asgi'\nasgi_loop = 'asyncio'\n"),
    "uvicorn": (ASGI, f"worker_class = '{UVICORN}'\n"),
    "gevent": (WSGI, "worker_class = 'gevent'\n"),
    "gevent_pywsgi": (WSGI, "worker_class = 'gevent_pywsgi'\n"),
    "tornado": (WSGI, "worker_class = 'tornado'\n"),
}
"""Application and config of each kind of event loop."""
QUEUE, UNREAD = "gunicorn_listener_backlog", "gunicorn_listener_waiting_connections"


@contextlib.contextmanager
def connected(family: int, address: Any, *data: bytes) -> Iterator[list[socket.socket]]:
    """Connect one client per item of data, each of which sends its item and then waits."""
    with contextlib.ExitStack() as stack:
        clients = []
        for sent in data:
            client = stack.enter_context(socket.socket(family))
            client.settimeout(20)
            client.connect(address)
            client.sendall(sent)
            clients.append(client)
        yield clients


def get(path: str = "/") -> bytes:
    """Return a request that keeps its connection."""
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def answer(client: socket.socket) -> bytes:
    """Return the complete response. Its body comes last."""
    received = b""
    while not received.endswith(b"\r\n\r\nok"):
        chunk = client.recv(65536)
        assert chunk, received
        received += chunk
    return received


@contextlib.contextmanager
def blocked(server: Server, family: int, address: Any, times: int = 1) -> Iterator[Path]:
    """Send this number of requests, which are in progress until the block ends."""
    file = server.folder / "block"
    file.touch()
    try:
        with connected(family, address, *[get("/block")] * times) as clients:
            eventually(
                lambda: server.scrape().one("gunicorn_requests_in_progress") == times, "the requests are in progress"
            )
            yield file
            file.unlink()
            for client in clients:
                answer(client)
    finally:
        file.unlink(missing_ok=True)


def waiting(samples: Samples, **labels: str) -> tuple[float, float]:
    """Return the number of connections in the accept queue, and of those accepted with unread data."""
    return samples.sum(QUEUE, **labels), samples.sum(UNREAD, **labels)
