"""An ASGI application with requests, websockets and a lifespan that leaves files behind."""

from __future__ import annotations

import asyncio
import os


async def lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        with open(message["type"], "a") as file:
            file.write("x")
        if message["type"] == "lifespan.shutdown":
            return


async def websocket(scope, receive, send):
    await receive()
    if scope["path"] == "/refused":
        await send({"type": "websocket.close"})
        return
    if scope["path"] == "/fails":
        raise KeyError("before it was accepted")
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        if message["text"] == "fail":
            raise ValueError("in the middle")
        await send({"type": "websocket.send", "text": message["text"]})


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    if scope["type"] == "websocket":
        await websocket(scope, receive, send)
        return
    path = scope["path"]
    if path == "/boom":
        raise ValueError("boom")
    if path == "/silent":
        return
    if path == "/hang":
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    status = int(path[8:]) if path.startswith("/status/") else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    if path == "/headers/raise":
        raise KeyError("before the body")
    if path == "/headers/return":
        return
    if path == "/stream":
        for _ in range(3):
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
            await asyncio.sleep(0.1)
    if path == "/late":
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise KeyError("late")
    if path == "/half":
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        return
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
    if path == "/background":
        await asyncio.sleep(2)
        open("done", "w").close()
