"""An application with starlette_exporter, as its documentation has it for several workers."""

from __future__ import annotations

import asyncio

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette_exporter import PrometheusMiddleware, handle_metrics
from starlette_exporter.optional_metrics import request_body_size, response_body_size


async def ok(request):
    await request.body()
    return PlainTextResponse("ok")


async def slow(request):
    await asyncio.sleep(0.3)
    return PlainTextResponse("ok")


async def hang(request):
    await asyncio.sleep(60)


async def boom(request):
    raise LookupError("boom")


async def unavailable(request):
    return PlainTextResponse("", 503)


app = Starlette(
    routes=[
        Route("/", ok),
        Route("/items/{number:int}", ok, methods=["GET", "POST"]),
        Route("/slow", slow),
        Route("/hang", hang),
        Route("/boom", boom),
        Route("/unavailable", unavailable),
    ]
)
app.add_middleware(
    PrometheusMiddleware, skip_paths=["/metrics"], optional_metrics=[request_body_size, response_body_size]
)
app.add_route("/metrics", handle_metrics)
