"""An ASGI application whose responses the server refuses, in part or as a whole, and one that waits."""

from __future__ import annotations

import asyncio

RESPONSES = {
    "/longer": ([(b"content-length", b"5")], b"twelve bytes"),
    "/shorter": ([(b"content-length", b"50")], b"twelve bytes"),
    "/text": ([], "no bytes"),
    "/header": ([(b"no name", b"x")], b"twelve bytes"),
}


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/ends":
        raise GeneratorExit
    headers, body = RESPONSES.get(scope["path"], ([], b"ok"))
    status = int(scope["query_string"] or 200)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if scope["path"] == "/slow":
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await asyncio.sleep(0.3)
    await send({"type": "http.response.body", "body": body})
