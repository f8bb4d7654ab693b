"""An ASGI application that denies, delays or accepts websocket handshakes."""

from __future__ import annotations

import asyncio


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
        return
    await receive()
    path = scope["path"]
    if path == "/denied":
        await send({"type": "websocket.http.response.start", "status": 418, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"teapot"})
    if path == "/late":
        assert (await receive())["type"] == "websocket.disconnect"
        await send({"type": "websocket.accept"})
    if path == "/push":
        await send({"type": "websocket.accept"})
        while True:
            await send({"type": "websocket.send", "text": "x" * 1000})
            await asyncio.sleep(0.01)
