"""An ASGI application of no known framework that puts known-looking keys into the scope."""

from __future__ import annotations


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    scope.update(app=app, route=app, router=app, endpoint=app)
    status = {"/gone/7": 404, "/method/7": 405, "/denied/7": 401}.get(scope["path"], 200)
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
