"""Notes on ASGI requests: the application does not see them, and none is left."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import fastapi
import litestar
import pytest
import quart
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from gunicorn_prom_hooks.shm.schema import ERROR_HANDLING
from gunicorn_prom_hooks.worker.asgi.disconnects import Message
from gunicorn_prom_hooks.worker.frameworks.annotations import scopes
from tests.helpers.asgi import Bench, Client, plain
from tests.helpers.frameworks import asked

ASGI = {"version": "3.0", "spec_version": "2.4"}


class Staying(Client):
    """A client that sends its request and stays."""

    async def receive(self) -> Message:
        if self.disconnected:
            await asyncio.Event().wait()
        self.disconnected = True  # gunicorn's ``Clients`` do not look at that
        return {"type": "http.request", "body": b"", "more_body": False}


def looked_at(scope: Any) -> Any:
    """Return what an application sees of the server's dict, and do with it what applications do."""
    asgi = scope["asgi"]
    assert type(asgi) is dict
    assert copy.deepcopy(asgi) == pickle.loads(pickle.dumps(asgi)) == asgi
    return json.loads(json.dumps(asgi))


def a_starlette() -> Any:
    async def seen(request: Request) -> Response:
        return JSONResponse(looked_at(request.scope))

    return Starlette(routes=[Route("/seen/{name}", seen)])


def a_fastapi() -> Any:
    app = fastapi.FastAPI()

    @app.get("/seen/{name}")
    async def seen(request: fastapi.Request) -> Any:
        looked_at(request.scope)
        return request.scope["asgi"]

    return app


def a_litestar() -> Any:
    @litestar.get("/seen/{name:str}")
    async def seen(request: litestar.Request[Any, Any, Any]) -> dict[str, Any]:
        looked_at(request.scope)
        return dict(request.scope["asgi"])

    return litestar.Litestar([seen], logging_config=None)


def a_quart() -> Any:
    app = quart.Quart(__name__)

    @app.get("/seen/<name>")
    async def seen(name: str) -> Any:
        return looked_at(quart.request.scope)

    return app


MAKE: dict[str, tuple[Callable[[], Any], str]] = {
    "starlette": (a_starlette, "/seen/{name}"),
    "fastapi": (a_fastapi, "/seen/{name}"),
    "litestar": (a_litestar, "/seen/{name}"),
    "quart": (a_quart, "/seen/<name>"),
}


def new_scope(path: str) -> dict[str, Any]:
    """Return what there is in a server's scope beside what a test's own has."""
    return {
        "path": path,
        "raw_path": path.encode(),
        "asgi": dict(ASGI),
        "http_version": "1.1",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "server": ("localhost", 80),
        "headers": [(b"host", b"localhost")],
    }


@pytest.mark.parametrize("name", MAKE)
@plain
def test_scope_is_to_the_application_what_the_server_has_made(name: str, plain: bool) -> None:
    """It can return, copy and pickle the server's ``asgi``, which contains nothing else; the route is known."""
    make, template = MAKE[name]
    app = make()
    bench = Bench(asked())
    before = dict(scopes)
    client = bench.call(app, Staying(), plain=plain, **new_scope("/seen/x"))
    body = b"".join(message.get("body", b"") for message in client.messages if "body" in message["type"])
    assert json.loads(body) == ASGI
    assert bench.requests() == {("GET", template, "200"): 1.0}
    assert scopes == before
    assert not bench.errors.counts


@plain
def test_notes_go_with_the_request_however_it_ends(plain: bool) -> None:
    """Nothing is kept of requests that raised, were canceled or have another ``asgi`` by now, and of inner ones."""

    async def boom(request: Request) -> Response:
        raise LookupError

    async def cancels(request: Request) -> Response:
        raise asyncio.CancelledError

    async def replaces(request: Request) -> Response:
        request.scope["asgi"] = {}
        return PlainTextResponse("ok")

    async def calls(request: Request) -> Response:
        await app({**request.scope, **new_scope("/replaces")}, request.receive, sent)
        return PlainTextResponse("ok")

    async def sent(message: Any) -> None:
        pass

    app = Starlette(routes=[Route(f"/{each.__name__}", each) for each in (boom, cancels, replaces, calls)])
    bench = Bench(asked())
    before = dict(scopes)
    for path, error in (("/boom", LookupError), ("/cancels", asyncio.CancelledError)):
        with pytest.raises(error):
            bench.call(app, Staying(), plain=plain, **new_scope(path))
    for path in ("/replaces", "/calls"):
        bench.call(app, Staying(), plain=plain, **new_scope(path))
    assert scopes == before
    assert {labels[1] for labels in bench.requests()} == {"/boom", "/cancels", "/replaces", "/calls"}


async def through(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    return response


async def broken(request: Request) -> Response:
    async def pieces() -> Any:
        if request.query_params:
            yield b"a"
        raise LookupError

    return StreamingResponse(pieces())


async def works_on(request: Request) -> Response:
    async def work() -> None:
        raise LookupError

    return PlainTextResponse("ok", background=BackgroundTask(work))


async def raises(request: Request) -> Response:
    raise LookupError


async def answer(request: Request, exc: Exception) -> Response:
    return StreamingResponse(iter(()), 404)


@plain
@pytest.mark.parametrize("layers", [1, 2])
def test_stream_that_breaks_below_a_starlette_middleware_is_a_failure(plain: bool, layers: int) -> None:
    """The middleware ends the response all the same, and raises then; the status is the one that was sent."""
    middleware = [Middleware(BaseHTTPMiddleware, dispatch=through)] * layers
    app = Starlette(routes=[Route("/broken", broken)], middleware=middleware)
    bench = Bench(asked())
    for query in (b"", b"a=1"):
        with pytest.raises(LookupError):
            bench.call(app, Staying(), plain=plain, **new_scope("/broken") | {"query_string": query})
    assert bench.requests() == {("GET", "/broken", "200"): 2.0}
    assert bench.failures() == {("GET", "/broken", "LookupError"): 2.0}
    assert bench.counts(ERROR_HANDLING) == bench.failures()


@plain
def test_answered_exception_and_background_task_are_no_failures_below_a_middleware(plain: bool) -> None:
    """One that a handler has answered was raised before the response, one in the background after it."""
    middleware = [Middleware(BaseHTTPMiddleware, dispatch=through)]
    routes = [Route("/work", works_on), Route("/raises", raises)]
    app = Starlette(routes=routes, middleware=middleware, exception_handlers={Exception: answer})
    handles = Starlette(routes=routes, middleware=middleware, exception_handlers={LookupError: answer})
    bench = Bench(asked())
    for path in ("/work", "/raises"):
        with pytest.raises(LookupError):
            bench.call(app, Staying(), plain=plain, **new_scope(path))
    bench.call(handles, Staying(), plain=plain, **new_scope("/raises"))
    assert bench.requests() == {("GET", "/work", "200"): 1.0, ("GET", "/raises", "404"): 2.0}
    assert bench.failures() == {}
