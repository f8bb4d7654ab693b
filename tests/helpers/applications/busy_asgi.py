"""An ASGI application that waits, fails, echoes, and blocks its event loop while the file ``block`` exists."""

from __future__ import annotations

import asyncio
import os
import random
import time

from tests.helpers.applications import asgi_echo


async def app(scope, receive, send):
    if scope["type"] == "http":
        if scope["path"].startswith("/search"):
            await asyncio.sleep(random.expovariate(1 / 0.03))
        while scope["path"] == "/block" and os.path.exists("block"):
            time.sleep(0.02)
    await asgi_echo.app(scope, receive, send)
