"""The application of the framework tests, in Litestar."""

from __future__ import annotations

from litestar import Litestar, Request, Response, Router, get
from litestar.exceptions import HTTPException
from litestar.response import Stream


class Handled(Exception):
    pass


def raises(path, error):
    @get(path)
    async def handler() -> None:
        raise error

    return handler


@get("/")
async def root() -> str:
    return "ok"


@get("/items/{number:int}")
async def item(request: Request) -> str:
    return str(request.path_params["number"])


@get("/stream")
async def stream() -> Stream:
    return Stream(iter([b"a", b"b"]))


def answer(request: Request, error: Exception) -> Response:
    return Response("handled", status_code=400)


handlers = [
    root,
    item,
    raises("/gone", HTTPException(status_code=404)),
    raises("/boom", LookupError("boom")),
    raises("/handled", Handled()),
    raises("/unavailable", HTTPException(status_code=503)),
    stream,
]
app = Litestar([*handlers, Router("/v2", route_handlers=handlers)], exception_handlers={Handled: answer})
