"""Websockets that come to nothing, or whose client just leaves: what the client saw is on the page."""

from __future__ import annotations

import socket

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Server, eventually
from tests.integration.conftest import Serve
from tests.integration.test_asgi import counts

APP = APPLICATIONS / "handshakes.py"
HANDSHAKE = (
    b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
NATIVE = "worker_class = 'asgi'\nasgi_loop = 'uvloop'\n"
UVICORN = "worker_class = 'uvicorn_worker.UvicornWorker'\n"
both = pytest.mark.parametrize("config", [NATIVE, UVICORN], ids=["asgi", "uvicorn"])


def refused(server: Server, path: str) -> str:
    """The status that a client sees of a handshake that is refused."""
    with pytest.raises(InvalidStatus) as error, connect(f"ws://127.0.0.1:{server.port}{path}"):
        pass
    return str(error.value.response.status_code)


@pytest.mark.parametrize(
    ("config", "denied", "silent"), [(NATIVE, "403", "403"), (UVICORN, "418", "500")], ids=["asgi", "uvicorn"]
)
def test_refused_handshake_is_counted_with_the_status_that_the_client_gets(
    serve: Serve, config: str, denied: str, silent: str
) -> None:
    """A response of the application's own is sent by those servers that can; each has its own word for none at all."""
    server = serve(config, app=APP)
    assert (refused(server, "/denied"), refused(server, "/silent")) == (denied, silent)
    assert counts(server, 3) == {("GET", "/", "200"): 1, ("GET", "/denied", denied): 1, ("GET", "/silent", silent): 1}
    failures = server.scrape().all("gunicorn_failed_requests_total")
    assert [labels["error_type"] for labels, _ in failures] == (["HTTP 500"] if silent == "500" else [])


@both
def test_client_that_leaves_before_the_handshake_response_is_499(serve: Serve, config: str) -> None:
    """A client that leaves before the response is a 499, and no failure of the application."""
    server = serve(config, app=APP)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(HANDSHAKE % b"/late")
        eventually(lambda: server.scrape().one("gunicorn_requests_in_progress") == 1, "it is in progress")
    assert counts(server, 2) == {("GET", "/", "200"): 1, ("GET", "/late", "499"): 1}
    assert server.scrape().sum("gunicorn_failed_requests_total") == 0


@both
def test_client_that_leaves_an_open_websocket_is_not_a_failure(serve: Serve, config: str) -> None:
    """That the client has left is what the application's ``send`` raises then, and no failure of it either."""
    server = serve(config, app=APP)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(HANDSHAKE % b"/push")
        assert b" 101 " in client.recv(65536)
    samples = server.settled(1, "gunicorn_websockets_total")
    eventually(lambda: server.scrape().sum("gunicorn_websockets_in_progress") == 0, "it is closed")
    samples = server.scrape()
    assert samples.sum("gunicorn_failed_requests_total") == 0
    assert samples.sum("gunicorn_worker_error_handling_total") == 0
