"""The default ASGI application, with ``/spin``, which blocks the event loop, and ``/read``, which reads the body."""

from __future__ import annotations

import time

from tests.helpers.applications import default_asgi
from tests.helpers.applications.client_record_asgi import whole

LONGEST_SECONDS = 60


async def app(scope, receive, send):
    if scope["type"] == "http" and scope["path"] == "/spin":
        deadline = time.monotonic() + LONGEST_SECONDS
        while time.monotonic() < deadline:
            pass
    if scope["type"] == "http" and scope["path"] == "/read":
        await whole(receive)
    await default_asgi.app(scope, receive, send)
