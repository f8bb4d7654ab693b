"""The application of the framework tests, in Starlette."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route


def raises(error):
    async def endpoint(request):
        raise error

    return endpoint


async def ok(request):
    return PlainTextResponse("ok")


async def stream(request):
    async def parts():
        yield b"a"
        yield b"b"

    return StreamingResponse(parts())


async def answer(request, error):
    return PlainTextResponse("handled", 400)


routes = [
    Route("/", ok),
    Route("/items/{number:int}", ok),
    Route("/gone", raises(HTTPException(404))),
    Route("/boom", raises(LookupError("boom"))),
    Route("/handled", raises(ValueError("handled"))),
    Route("/unavailable", raises(HTTPException(503))),
    Route("/stream", stream),
]
app = Starlette(routes=[*routes, Mount("/v2", Starlette(routes=routes))], exception_handlers={ValueError: answer})
