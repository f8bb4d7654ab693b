"""The smallest ASGI application that tells which worker answers."""

from __future__ import annotations

import os


async def app(scope, receive, send):
    if scope["type"] == "http":
        body = str(os.getpid()).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
