"""The hand-written recipe as an ASGI middleware, since the hooks of gunicorn do not get the response there."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from benchmarks import recipe, recipe_of_three

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Callable[[], Awaitable[Message]], Send], Awaitable[None]]


def middleware(app: Application) -> Application:
    """Record the application's requests in the seven families of the recipe."""

    async def recorded(scope: MutableMapping[str, Any], receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        status, sent = 500, 0

        async def sending(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        recipe.IN_PROGRESS.inc()
        started = time.perf_counter()
        try:
            await app(scope, receive, sending)
        finally:
            took = time.perf_counter() - started
            recipe.IN_PROGRESS.dec()
            method, endpoint, pid = scope["method"], scope["path"], os.getpid()
            received = next((float(value) for name, value in scope["headers"] if name == b"content-length"), 0.0)
            recipe.REQUESTS.labels(method, endpoint, str(status)).inc()
            recipe.DURATION.labels(method, endpoint).observe(took)
            recipe.REQUEST_SIZE.labels(method, endpoint).observe(received)
            recipe.RESPONSE_SIZE.labels(method, endpoint).observe(sent)
            recipe.WORKER_REQUESTS.labels(pid).inc()
            recipe.WORKER_DURATION.labels(pid).observe(took)

    return recorded


def middleware_of_three(app: Application) -> Application:
    """Record the application's requests in three families."""

    async def recorded(scope: MutableMapping[str, Any], receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        status = 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        recipe_of_three.IN_PROGRESS.inc()
        started = time.perf_counter()
        try:
            await app(scope, receive, sending)
        finally:
            took = time.perf_counter() - started
            recipe_of_three.IN_PROGRESS.dec()
            recipe_of_three.REQUESTS.labels(scope["method"], scope["path"], str(status)).inc()
            recipe_of_three.DURATION.labels(scope["method"], scope["path"]).observe(took)

    return recorded
