"""The echo application, whose ``/block`` blocks the event loop."""

from __future__ import annotations

import time

from tests.helpers.applications import asgi_echo


async def app(scope, receive, send):
    if scope["type"] == "http" and scope["path"] == "/block":
        time.sleep(1000)
    await asgi_echo.app(scope, receive, send)
