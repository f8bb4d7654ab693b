"""Websockets of WSGI applications, which take over the client's socket."""

from __future__ import annotations

from pathlib import Path

import pytest
import simple_websocket

from tests.helpers.servers import eventually
from tests.integration.conftest import Serve

ECHO = """
import flask
from simple_websocket import ConnectionClosed, Server

app = flask.Flask(__name__)

class Ended(flask.Response):
    def __call__(self, *args, **kwargs):
        raise StopIteration

@app.route("/")
def index():
    return "ok"

@app.route("/echo/<int:number>", websocket=True)
def echo(number):
    ws = Server(flask.request.environ)
    try:
        while True:
            ws.send(ws.receive())
    except ConnectionClosed:
        pass
    return Ended()
"""


@pytest.mark.parametrize("kind", ["worker_class = 'gthread'\nthreads = 4\n", "worker_class = 'gevent'\n"])
def test_websocket_is_counted_as_one_and_not_as_a_failed_request(serve: Serve, tmp_path: Path, kind: str) -> None:
    """Nor is its life the duration of a request."""
    app = tmp_path / "echo.py"
    app.write_text(ECHO)
    server = serve("workers = 1\n" + kind, app=app)
    for number in range(3):
        client = simple_websocket.Client(f"ws://127.0.0.1:{server.port}/echo/{number}")
        client.send("hello")
        assert client.receive(timeout=10) == "hello"
        assert server.scrape().one("gunicorn_requests_in_progress") == 1
        client.close()
    eventually(lambda: server.scrape().one("gunicorn_requests_in_progress") == 0, "all have ended")
    samples = eventually(
        lambda: found if (found := server.scrape()).sum("gunicorn_websockets_total") == 3 else None, "three websockets"
    )
    assert samples.one("gunicorn_websockets_total", endpoint="/echo/<int:number>") == 3
    assert samples.sum("gunicorn_websockets_in_progress") == 0
    assert samples.sum("gunicorn_requests_total", endpoint="/echo/<int:number>") == 0
    assert samples.sum("gunicorn_failed_requests_total") == 0
    assert server.get("/").status_code == 200
