"""Worker classes whose WSGI application is called through a recording function, which does not change the responses."""

from __future__ import annotations

import http.client
from contextlib import closing

import pytest

from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Server
from tests.integration.conftest import Serve

APP = APPLICATIONS / "wsgi_bodies.py"
BODIES = {
    "/list": b"helloworld",
    "/tuple": b"abcdef",
    "/empty": b"",
    "/generator": b"abcd",
    "/again": b"sorry",
    "/": b"ok",
}


def session(server: Server) -> dict[str, tuple[bytes, str | None, str | None]]:
    """Bodies and what tells their ends, of requests that come one after the other on one connection."""
    answers = {}
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        for path in BODIES:
            connection.request("GET", path)
            response = connection.getresponse()
            framing = response.getheader("Content-Length"), response.getheader("Transfer-Encoding")
            answers[path] = response.read(), *framing
    return answers


@pytest.mark.parametrize("worker", ["gevent_pywsgi", "tornado"])
def test_response_bodies_and_framing_are_unchanged_and_sizes_counted(serve: Serve, worker: str) -> None:
    """Each body arrives whole, framed as it is without us, and its bytes are on the page."""
    with_us = serve(f"worker_class = {worker!r}\n", app=APP)
    config = f"bind = '127.0.0.1:PORT'\ncontrol_socket_disable = True\nworker_class = {worker!r}\n"
    answers = session(with_us)
    assert {path: body for path, (body, *_) in answers.items()} == BODIES
    assert answers == session(serve(app=APP, config=config))
    samples = with_us.settled(1 + len(BODIES))
    assert samples.sum("gunicorn_response_size_bytes_sum") == sum(map(len, BODIES.values())) + len("ok")
    assert samples.one("gunicorn_requests_total", endpoint="/again", status="503") == 1


@pytest.mark.parametrize(
    ("worker", "answer", "seconds"), [("gevent_pywsgi", "500", 20), ("tornado", "", 2), ("sync", "403", 20)]
)
def test_ssl_error_of_the_application_has_the_status_that_the_server_gives_it(
    serve: Serve, worker: str, answer: str, seconds: int
) -> None:
    """A partner's certificate is not the client's: only gunicorn takes it for that, and Tornado does not answer."""
    server = serve(f"worker_class = {worker!r}\n", app=APP)
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=seconds)) as connection:
        connection.request("GET", "/partner")
        try:
            seen = str(connection.getresponse().status)
        except (http.client.HTTPException, OSError):
            seen = ""
    assert seen == answer
    samples = server.settled(2)
    assert samples.one("gunicorn_requests_total", endpoint="/partner", status=answer or "500") == 1
    assert samples.one("gunicorn_failed_requests_total", error_type="SSLCertVerificationError") == 1
