"""An ASGI application object with a state that hooks can change."""

from __future__ import annotations

from typing import ClassVar


class App:
    state: ClassVar[dict[str, bool]] = {}

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            raise RuntimeError("no lifespan")
        body = repr(sorted(self.state)).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Middleware:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        self.app.state["middleware"] = True
        await self.app(scope, receive, send)


app = App()
