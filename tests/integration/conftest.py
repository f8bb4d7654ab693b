"""The fixture that starts gunicorns, and tools that must be there in CI."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.helpers.servers import Server

APP = """
import os, sys, time

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/boom":
        raise ValueError("boom")
    if path == "/hang":
        time.sleep(1000)
    if path.startswith("/sleep/"):
        time.sleep(float(path[7:]))
    if path == "/503":
        start_response("503 Service Unavailable", [("Content-Length", "0")])
        return [b""]
    if path == "/missing":
        start_response("404 Not Found", [("Content-Length", "0")])
        return [b""]
    if path == "/late":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return late()
    if path == "/big":
        start_response("200 OK", [("Content-Length", str(40 * 1024 * 1024))])
        return (b"x" * 65536 for _ in range(640))
    if path == "/read":
        environ["wsgi.input"].read()
    if path == "/exit":
        os._exit(7)
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]

def late():
    yield b"x" * 100
    raise KeyError("late")
"""

CONFIG = """
from gunicorn_prom_hooks import install
bind = "127.0.0.1:PORT"
control_socket_disable = True
install(globals(), port=METRICS_PORT)
"""

Serve = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a gunicorn with our hooks and a small application; ``more`` is added to its config file."""
    with ExitStack() as stack:
        count = 0

        def start(more: str = "", *, app: str = APP, config: str = CONFIG, **keywords: object) -> Server:
            nonlocal count
            count += 1
            server = Server(tmp_path / str(count), app=app, config=config + more, **keywords)  # type: ignore[arg-type]
            return stack.enter_context(server)

        yield start


def pytest_configure(config: pytest.Config) -> None:
    """Declares the marker."""
    config.addinivalue_line("markers", "needs(tool): a program that the test runs")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A tool that is missing fails the test in CI and skips it elsewhere."""
    for marker in item.iter_markers("needs"):
        for tool in marker.args:
            if shutil.which(tool) is None:
                message = f"{tool} is not installed"
                if os.environ.get("CI"):
                    pytest.fail(message)
                pytest.skip(message)
