"""An ASGI application that strips a prefix from its path, in the scope itself."""

from __future__ import annotations


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    scope["path"] = scope["path"].removeprefix("/strip")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
