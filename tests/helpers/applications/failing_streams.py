"""A Starlette application whose response bodies fail after their first part."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route


async def upstream():
    yield b"first part"
    await asyncio.wait_for(asyncio.sleep(10), 0.05)


async def file():
    yield b"first part"
    Path("/nonexistent/report.csv").read_text()


async def database():
    yield b"first part"
    raise ConnectionResetError(104, "reset by the database")


async def cancelled():
    yield b"first part"
    raise asyncio.CancelledError


def route(body):
    return Route("/" + body.__name__, lambda request: StreamingResponse(body()))


app = Starlette(routes=[route(body) for body in (upstream, file, database, cancelled)])
