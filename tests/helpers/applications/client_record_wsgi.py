"""The application of the client record, WSGI: it does what the path says and answers with the status in the query."""

from __future__ import annotations

import os
import socket
import time
from urllib.parse import parse_qs

LARGE = 33554432


def app(environ, start_response):
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    path, read = environ["PATH_INFO"], environ["wsgi.input"].read
    if "bell" in query:
        open(os.path.join("bells", query["bell"]), "w").close()
    if path == "/raise":
        raise ValueError("before the response")
    if path == "/late":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return late()
    if path == "/chunks":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (b"x" * 700 for _ in range(5 if environ["REQUEST_METHOD"] != "HEAD" else 0))
    if path == "/leave":
        until_gone(environ["gunicorn.socket"])
    if path == "/large" or (path == "/upload" and len(read()) >= 0):
        start_response("200 OK", [("Content-Length", str(LARGE))])
        return (b"x" * 65536 for _ in range(LARGE // 65536))
    body = str(len(read())).encode() if path == "/echo" else b"ok"
    status = query.get("status", "200")
    headers = [] if status in ("204", "304") else [("Content-Length", str(len(body)))]
    start_response(status + " Said", headers)
    return [body] if headers and environ["REQUEST_METHOD"] != "HEAD" else []


def late():
    yield b"x" * 100
    raise KeyError("in the middle of the response")


def until_gone(sock):
    deadline = time.monotonic() + 20
    while sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 7:  # TCP_CLOSE
        assert time.monotonic() < deadline
        time.sleep(0.005)
