"""The application of the client record, ASGI, with trailers, early hints and incomplete responses."""

from __future__ import annotations

import asyncio

from tests.helpers.applications import client_record_asgi


async def app(scope, receive, send):
    path = scope["path"]
    if path == "/sleep":
        await asyncio.sleep(0.5)
    if path == "/silent":
        return
    if path in ("/headers", "/started"):
        await client_record_asgi.start(send, 201)
        if path == "/headers":
            raise KeyError("before the body")
        return
    if path == "/half":
        await client_record_asgi.start(send, 200)
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        return
    if path == "/trailers":
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"ok"})
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})
        return
    if path == "/hints":
        await send({"type": "http.response.informational", "status": 103, "headers": [(b"link", b"</x>")]})
    await client_record_asgi.app(scope, receive, send)
    if path == "/background":
        await asyncio.sleep(0.5)
