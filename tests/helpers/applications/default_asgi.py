"""The paths of the default application that the compatibility tables need, for ASGI."""

from __future__ import annotations

import asyncio
import time


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        return
    if scope["type"] != "http":
        return
    path = scope["path"]
    if path == "/boom":
        raise ValueError("boom")
    if path == "/hang":
        time.sleep(1000)
    if path.startswith("/sleep/"):
        await asyncio.sleep(float(path[7:]))
    status = {"/503": 503, "/missing": 404}.get(path, 200)
    await send({"type": "http.response.start", "status": status, "headers": []})
    for _ in range(640 if path == "/big" else 0):
        await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b"12345"})
