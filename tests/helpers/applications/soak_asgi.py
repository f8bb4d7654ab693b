"""The application of the soak, ASGI."""

from __future__ import annotations

import asyncio

from tests.helpers.applications import soak_record
from tests.helpers.applications.asgi_echo import lifespan


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    status, seconds, body = soak_record.begin(scope["method"], scope["path"], scope["query_string"].decode())
    with soak_record.finished.time():
        while (message := await receive())["type"] == "http.request" and message.get("more_body"):
            pass
        await asyncio.sleep(seconds)
        headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
