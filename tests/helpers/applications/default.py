"""The default application of the integration tests: one path for each thing that may happen to a request."""

from __future__ import annotations

import os
import time


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/boom":
        raise ValueError("boom")
    if path in ("/hang", "/block"):
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
