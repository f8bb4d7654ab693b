"""An ASGI application that waits for the disconnect before it sends the last piece of the body."""

from __future__ import annotations


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    path = scope["path"]
    headers = [] if path == "/chunked" else [(b"content-length", b"6")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    pieces = [b"first "] if path != "/short" else [b"fir", b"st "]
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})
