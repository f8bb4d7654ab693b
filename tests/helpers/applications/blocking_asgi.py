"""An ASGI application whose ``/block`` blocks the event loop while the file ``block`` exists."""

from __future__ import annotations

import os
import time


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        time.sleep(1.5)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/block":
        while os.path.exists("block"):
            time.sleep(0.02)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
