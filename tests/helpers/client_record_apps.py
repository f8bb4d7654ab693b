"""One application twice, as WSGI and as ASGI: it does what the path says, and answers with the status in the query.

Where a client is to hang up on it, it rings a bell first, a file that the client waits for, and then waits until the
client has gone.
"""

from __future__ import annotations

LARGE = 32 * 1024 * 1024
"""Bytes of a response that no socket buffer holds."""

WSGI = f"""
import os, socket, time
from urllib.parse import parse_qs

LARGE = {LARGE}

def app(environ, start_response):
    query = dict((name, values[0]) for name, values in parse_qs(environ["QUERY_STRING"]).items())
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
    if path == "/large" or path == "/upload" and len(read()) >= 0:
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
"""

ASGI = f"""
import os
from urllib.parse import parse_qs

LARGE = {LARGE}

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({{"type": message["type"] + ".complete"}})
            if message["type"] == "lifespan.shutdown":
                return
    query = dict((name, values[0]) for name, values in parse_qs(scope["query_string"].decode()).items())
    path = scope["path"]
    if "bell" in query:
        open(os.path.join("bells", query["bell"]), "w").close()
    if path == "/raise":
        raise ValueError("before the response")
    if path == "/late":
        await start(send, 200)
        await send({{"type": "http.response.body", "body": b"x" * 100, "more_body": True}})
        raise KeyError("in the middle of the response")
    if path == "/chunks":
        await start(send, 200)
        for _ in range(5):
            await send({{"type": "http.response.body", "body": b"x" * 700, "more_body": True}})
        await send({{"type": "http.response.body", "body": b""}})
        return
    if path == "/leave":
        while (await receive())["type"] != "http.disconnect":
            pass
    if path in ("/large", "/upload"):
        if path == "/upload":
            await whole(receive)
        await start(send, 200, LARGE)
        for _ in range(LARGE // 65536):
            await send({{"type": "http.response.body", "body": b"x" * 65536, "more_body": True}})
        await send({{"type": "http.response.body", "body": b""}})
        return
    body = str(await whole(receive)).encode() if path == "/echo" else b"ok"
    status = int(query.get("status", 200))
    empty = status in (204, 304)
    await start(send, status, None if empty else len(body))
    await send({{"type": "http.response.body", "body": b"" if empty or scope["method"] == "HEAD" else body}})

async def start(send, status, length=None):
    headers = [(b"content-type", b"text/plain")]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    await send({{"type": "http.response.start", "status": status, "headers": headers}})

async def whole(receive):
    length = 0
    while True:
        message = await receive()
        length += len(message.get("body", b""))
        if not message.get("more_body"):
            return length
"""
