"""The application of the client record, ASGI: it does what the path says and answers with the status in the query."""

from __future__ import annotations

import os
from urllib.parse import parse_qs

LARGE = 33554432


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    path = scope["path"]
    if "bell" in query:
        open(os.path.join("bells", query["bell"]), "w").close()
    if path == "/raise":
        raise ValueError("before the response")
    if path == "/late":
        await start(send, 200)
        await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})
        raise KeyError("in the middle of the response")
    if path == "/chunks":
        await start(send, 200)
        for _ in range(5):
            await send({"type": "http.response.body", "body": b"x" * 700, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    if path == "/leave":
        while (await receive())["type"] != "http.disconnect":
            pass
    if path in ("/large", "/upload"):
        if path == "/upload":
            await whole(receive)
        await start(send, 200, LARGE)
        for _ in range(LARGE // 65536):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    body = str(await whole(receive)).encode() if path == "/echo" else b"ok"
    status = int(query.get("status", 200))
    empty = status in (204, 304)
    await start(send, status, None if empty else len(body))
    await send({"type": "http.response.body", "body": b"" if empty or scope["method"] == "HEAD" else body})


async def start(send, status, length=None):
    headers = [(b"content-type", b"text/plain")]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def whole(receive):
    length = 0
    while True:
        message = await receive()
        length += len(message.get("body", b""))
        if not message.get("more_body"):
            return length
