"""Processes that a worker forks, and that run the server's own code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.servers import eventually
from tests.integration.conftest import Serve

WSGI = """
import os
import sys

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/exit":
        if os.fork() == 0:
            sys.exit(0)
    if path == "/raise":
        if os.fork() == 0:
            raise RuntimeError("of the child")
    if path == "/answer":
        os.fork()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
ASGI = """
import os
import sys

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/exit" and os.fork() == 0:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})
        finally:
            os._exit(0)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        *((kind, way) for kind in ("sync", "gevent", "gevent_pywsgi") for way in ("exit", "raise")),
        ("tornado", "exit"),
        ("sync", "answer"),
    ],
)
def test_child_that_returns_into_the_server_counts_nothing(serve: Serve, tmp_path: Path, kind: str, way: str) -> None:
    """Its requests end in its own memory, so those of the worker are counted once, with the labels that they have."""
    app = tmp_path / "forking.py"
    app.write_text(WSGI)
    server = serve(f"workers = 1\nworker_class = '{kind}'\n", app=app)
    server.wait_for_workers(1)
    (worker,) = server.workers()
    assert server.get("/").status_code == 200
    for number in range(3):
        assert b"200 OK" in server.send(f"GET /{way} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        # Until then it has the worker's listening socket, and may answer the next request.
        eventually(lambda: all(child.status() == "zombie" for child in worker.children()), "the child has ended")
        assert server.get(f"/new{number}").status_code == 200
    samples = server.settled(8)
    assert samples.sum("gunicorn_requests_total") == 8
    assert samples.sum("gunicorn_requests_total", endpoint=f"/{way}") == 3
    if way != "answer":  # both write to one socket, and the first to end shuts it down
        assert samples.sum("gunicorn_requests_total", status="200") == 8
        assert samples.sum("gunicorn_failed_requests_total") == 0
    assert samples.one("gunicorn_requests_in_progress") == 0
    assert min(value for _, value in samples.all("gunicorn_exporter_collector_success")) == 1


@pytest.mark.parametrize("kind", ["asgi", "uvicorn_worker.UvicornWorker"])
def test_child_that_answers_with_asgi_counts_nothing(serve: Serve, tmp_path: Path, kind: str) -> None:
    """The messages that the child sends are not counted, those of the worker are."""
    app = tmp_path / "forking.py"
    app.write_text(ASGI)
    server = serve(f"workers = 1\nworker_class = '{kind}'\n", app=app)
    server.wait_for_workers(1)
    for _ in range(3):
        assert server.get("/").status_code == 200
    for _ in range(3):
        assert b"200 OK" in server.send(b"GET /exit HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert server.get("/").status_code == 200
    samples = server.settled(8)
    assert samples.sum("gunicorn_requests_total", status="200") == 8
    assert samples.sum("gunicorn_failed_requests_total") == 0
    assert samples.one("gunicorn_requests_in_progress") == 0
