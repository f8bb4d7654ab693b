"""Errors that look like a client that left and are the application's own, and clients that leave in their body."""

from __future__ import annotations

import socket
import struct

import pytest

from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import eventually
from tests.integration.conftest import Serve

STREAMS = APPLICATIONS / "failing_streams.py"
CONNECTIONS = APPLICATIONS / "failing_connections.py"


@pytest.mark.parametrize("worker", ["asgi", "uvicorn_worker.UvicornWorker"])
def test_response_stream_that_raises_is_a_failure_and_not_499(serve: Serve, worker: str) -> None:
    """A file, an upstream or a database that fails in mid-response is a failure, under its own name, and no 499."""
    server = serve(f"worker_class = {worker!r}\n", app=STREAMS)
    expected = {"/upstream": "TimeoutError", "/file": "FileNotFoundError", "/database": "ConnectionResetError"}
    if worker == "asgi":  # with uvicorn Starlette runs the body in a task group, which swallows it
        expected["/cancelled"] = "CancelledError"
    before = server.scrape().sum("gunicorn_requests_total")
    for path in expected:
        assert b"first part" in server.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    samples = server.settled(before + len(expected))
    failed = samples.all("gunicorn_failed_requests_total")
    assert {labels["endpoint"]: labels["error_type"] for labels, _ in failed if labels["endpoint"] != "/"} == expected
    for path in expected:
        assert samples.one("gunicorn_requests_total", endpoint=path) == 1
        assert samples.one("gunicorn_requests_total", endpoint=path, status="200") == 1
    assert samples.one("gunicorn_requests_in_progress") == 0


@pytest.mark.parametrize("worker", ["sync", "gthread", "gevent"])
def test_broken_connection_of_the_application_is_a_failure_and_not_499(serve: Serve, worker: str) -> None:
    """A pipe or a connection of the application's that breaks is a failure, also where gunicorn reads from it."""
    server = serve(f"worker_class = {worker!r}\nthreads = {2 if worker == 'gthread' else 1}\n", app=CONNECTIONS)
    expected = {"/pipe": "BrokenPipeError", "/wrapped": "ConnectionResetError", "/body": "ConnectionResetError"}
    for path in expected:
        server.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    samples = server.settled(1 + len(expected))
    failed = samples.all("gunicorn_failed_requests_total")
    assert {labels["endpoint"]: labels["error_type"] for labels, _ in failed} == expected
    assert samples.sum("gunicorn_requests_total", status="499") == 0


UPLOADS = APPLICATIONS / "uploads.py"


@pytest.mark.parametrize("worker", ["sync", "gthread", "gevent", "gevent_pywsgi"])
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_client_that_disconnects_in_its_request_body_is_499(serve: Serve, worker: str, reset: bool) -> None:
    """A read of the request's body that fails is a client that left, whichever server reads it."""
    name = "gunicorn.workers.ggevent.GeventPyWSGIWorker" if worker == "gevent_pywsgi" else worker
    server = serve(f"worker_class = {name!r}\nthreads = {2 if worker == 'gthread' else 1}\n", app=UPLOADS)
    heads = {"/sized": b"Content-Length: 100\r\n\r\nabc", "/chunked": b"Transfer-Encoding: chunked\r\n\r\n64\r\nabc"}
    for path, head in heads.items():
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n".encode() + head)
            eventually(lambda: server.scrape().one("gunicorn_requests_in_progress") == 1, "request in progress")
            if reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    samples = server.settled(1 + len(heads))
    assert samples.sum("gunicorn_requests_total", status="499") == len(heads), samples.all("gunicorn_requests_total")
    assert samples.sum("gunicorn_failed_requests_total") == 0


def test_malformed_body_in_gevent_pywsgi_is_400(serve: Serve) -> None:
    """It answers with a 400, which is the client's fault."""
    server = serve("worker_class = 'gunicorn.workers.ggevent.GeventPyWSGIWorker'\n", app=UPLOADS)
    answer = server.send(b"POST /odd HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    samples = server.settled(2)
    assert samples.one("gunicorn_requests_total", endpoint="/odd", status="400") == 1


PIECES = APPLICATIONS / "pieces.py"


def test_client_leaving_before_the_end_is_200_only_with_a_complete_response(serve: Serve) -> None:
    """It has the whole response if there is a Content-Length. It has not if the end is still to be sent."""
    server = serve("worker_class = 'asgi'\n", app=PIECES)
    paths = {"/whole": "200", "/chunked": "499", "/short": "499"}
    for path in paths:
        with socket.create_connection(("127.0.0.1", server.port), 10) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            received = b""
            while b"fir" not in received:
                received += client.recv(65536)
    samples = server.settled(1 + len(paths))
    for path, status in paths.items():
        assert samples.one("gunicorn_requests_total", endpoint=path, status=status) == 1
    assert samples.sum("gunicorn_failed_requests_total", error_type="IncompleteResponse") == 0
