"""Starlette's and FastAPI's routes, read off the scope."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import fastapi
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Host, Mount, Route, Router, WebSocketRoute
from starlette.websockets import WebSocket

from gunicorn_prom_hooks.worker.frameworks import starlette
from tests.helpers.frameworks import Told, asgi, asked, new_scope, only, serve_asgi


async def ok(request: Request) -> Response:
    return PlainTextResponse("ok")


async def gone(request: Request) -> Response:
    raise HTTPException(404)


async def boom(request: Request) -> Response:
    raise LookupError("boom")


async def unavailable(request: Request) -> Response:
    raise HTTPException(503)


async def answered(request: Request) -> Response:
    try:
        raise LookupError("gone by")
    except LookupError:
        return PlainTextResponse("sorry", 500)


async def answer(request: Request, exc: Exception) -> Response:
    return PlainTextResponse("sorry", 502)


async def stream(request: Request) -> Response:
    async def parts() -> Any:
        yield b"a"
        yield b"b"

    return StreamingResponse(parts())


class Klass:
    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        self.args = scope, receive, send

    def __await__(self) -> Any:
        return PlainTextResponse("ok")(*self.args).__await__()


async def plain(scope: Any, receive: Any, send: Any) -> None:
    await PlainTextResponse("plain")(scope, receive, send)


async def through(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    return response


async def refuse(request: Request, call_next: Any) -> Response:
    return PlainTextResponse("no", 401)


def starlette_routes() -> list[BaseRoute]:
    inner: list[BaseRoute] = [Route("/", ok), Route("/{name}/x", ok), Route("/same/{other:int}", ok)]
    return [
        Route("/", ok),
        Route("/items/{number:int}", ok, methods=["GET"]),
        Route("/items/{number:int}/parts", ok),
        Route("/gone", gone),
        Route("/boom", boom),
        Route("/stream", stream),
        Route("/class/{name}", Klass),
        Mount("/sub", Starlette(routes=inner)),
        Mount("/routes", routes=[Mount("/deep", routes=inner)]),
        Mount("/tenants/{tenant}", Starlette(routes=inner)),
        Mount("/nested/{a:int}", routes=[Mount("/{b}", Router(inner))]),
        Mount("/plain", plain),
        Host("{sub}.example.org", Router([Route("/h/{x}", ok), Mount("/m", routes=inner)])),
    ]


REQUESTS = [
    ("/", (200, "/", None)),
    ("/items/7", (200, "/items/{number:int}", None)),
    ("/items/7/", (307, "<unmatched>", None)),
    ("/items/x", (404, "<unmatched>", None)),
    ("/items/7/parts", (200, "/items/{number:int}/parts", None)),
    ("/gone", (404, "/gone", None)),
    ("/boom", (500, "/boom", "LookupError")),
    ("/stream", (200, "/stream", None)),
    ("/class/a", (200, "/class/{name}", None)),
    ("/sub/", (200, "/sub/", None)),
    ("/sub/7/x", (200, "/sub/{name}/x", None)),
    ("/sub/same/7", (200, "/sub/same/{other:int}", None)),
    ("/sub/nowhere", (404, "<unmatched>", None)),
    ("/routes/deep/7/x", (200, "/routes/deep/{name}/x", None)),
    ("/routes/deep/nowhere", (404, "<unmatched>", None)),
    ("/routes/nowhere", (404, "<unmatched>", None)),
    ("/tenants/acme/7/x", (200, "/tenants/{tenant}/{name}/x", None)),
    ("/tenants/acme/", (200, "/tenants/{tenant}/", None)),
    ("/nested/7/b/9/x", (200, "/nested/{a}/{b}/{name}/x", None)),
    ("/nested/007/b/9/x", (200, "/nested/:id/{b}/{name}/x", None)),
    ("/plain/a/b", (200, "/plain/{path:path}", None)),
]
OLDER = ["", "route"]
"""What the scope has not got: Starlette 0 left no route in it."""


@pytest.fixture(autouse=True)
def only_starlette(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "starlette")


@pytest.mark.parametrize("older", OLDER)
@pytest.mark.parametrize(("path", "expected"), REQUESTS)
def test_endpoint_is_the_path_of_the_route_with_its_mounts(path: str, expected: Told, older: str) -> None:
    """The path of the route with those of its mounts, also where several routes have one endpoint."""
    app = Starlette(routes=starlette_routes())
    assert asgi(app, path, hidden=older) == expected


@pytest.mark.parametrize("older", OLDER)
def test_method_not_allowed_has_the_path_of_its_route(older: str) -> None:
    """Starlette has matched the route, and says that the method is not allowed."""
    app = Starlette(routes=starlette_routes())
    assert asgi(app, "/items/7", "DELETE", hidden=older) == (405, "/items/{number:int}", None)


@pytest.mark.parametrize("older", OLDER)
def test_endpoint_of_a_host_route_has_no_host(older: str) -> None:
    """Routes of a host are told; the host is not in the path."""
    app = Starlette(routes=starlette_routes())
    headers = [(b"host", b"a.example.org")]
    assert asgi(app, "/h/7", hidden=older, headers=headers) == (200, "/h/{x}", None)
    assert asgi(app, "/m/7/x", hidden=older, headers=headers)[1] == "/m/{name}/x"
    assert asgi(app, "/h/7/8", hidden=older, headers=headers)[1] == "<unmatched>"


def test_exception_answered_by_a_handler_is_reported_and_http_exception_is_not() -> None:
    """An exception that a handler answers with a 5xx is told; one that was raised in order to be the answer is not."""
    routes = [Route("/boom", boom), Route("/unavailable", unavailable), Route("/answered", answered)]
    handlers = {LookupError: answer}
    app = Starlette(routes=routes, exception_handlers=handlers)
    through_middleware = Middleware(BaseHTTPMiddleware, dispatch=through)
    assert asgi(app, "/boom") == (502, "/boom", "LookupError")
    assert asgi(app, "/unavailable") == (503, "/unavailable", None)
    assert asgi(app, "/answered") == (500, "/answered", None)
    app = Starlette(routes=routes, middleware=[through_middleware])
    assert asgi(app, "/boom") == (500, "/boom", "LookupError")


@pytest.mark.parametrize("older", OLDER)
def test_endpoint_of_a_websocket_is_the_path_of_its_route(older: str) -> None:
    """The route of a websocket is told like any other."""

    async def talk(websocket: WebSocket) -> None:
        await websocket.close()

    app = Starlette(routes=[Mount("/ws", routes=[WebSocketRoute("/{room}", talk)])])
    scope = {**new_scope("/ws/7"), "type": "websocket"}

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        scope.pop(older, None)

    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    assert asked()(scope) == "/ws/{room}"


def test_endpoint_begins_with_root_path_if_the_path_has_it() -> None:
    """root_path comes first where the path has it; a proxy may have taken it off."""
    app = Starlette(routes=starlette_routes())
    assert asgi(app, "/api/items/7", root_path="/api")[1] == "/api/items/{number:int}"
    assert asgi(app, "/api/tenants/acme/7/x", root_path="/api")[1] == "/api/tenants/{tenant}/{name}/x"
    assert asgi(app, "/items/7", root_path="/api")[1] == "/items/{number:int}"


def test_middleware_that_responds_itself_has_no_endpoint() -> None:
    """Middleware that hands on the request changes nothing; of what it answers itself no route is known."""
    routes = starlette_routes()
    handing_on = Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=through)])
    assert asgi(handing_on, "/tenants/acme/7/x")[1] == "/tenants/{tenant}/{name}/x"
    refusing = Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=refuse)])
    assert asgi(refusing, "/items/7") == (401, None, None)
    below = Starlette(routes=[Mount("/sub", refusing)])
    assert asgi(below, "/sub/items/7") == (401, None, None)


class Copying:
    """A middleware that hands on a copy of the scope."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(dict(scope), receive, send)


@pytest.mark.parametrize(("path", "expected"), REQUESTS)
def test_copied_scope_keeps_endpoint_and_exception(path: str, expected: Told) -> None:
    """A copy of the scope loses nothing: in front of the application, or within it."""
    app = Starlette(routes=starlette_routes())
    assert asgi(Copying(app), path) == expected
    assert asgi(Starlette(routes=starlette_routes(), middleware=[Middleware(Copying)]), path) == expected


def test_copied_scope_below_a_mount_keeps_endpoint_with_the_mount() -> None:
    """The same below a mount, whose path comes first."""
    app = Starlette(routes=[Mount("/v/{version}", Copying(Starlette(routes=starlette_routes())))])
    assert asgi(app, "/v/2/items/7") == (200, "/v/{version}/items/{number:int}", None)
    assert asgi(app, "/v/2/routes/deep/7/x") == (200, "/v/{version}/routes/deep/{name}/x", None)
    assert asgi(app, "/v/2/boom") == (500, "/v/{version}/boom", "LookupError")
    assert asgi(app, "/v/2/nowhere") == (404, "<unmatched>", None)
    assert asgi(app, "/v/2/items/7/") == (307, "<unmatched>", None)


def test_copied_scope_has_no_reference_cycle() -> None:
    """What is noted on a request leaves no circle behind for the garbage collector."""
    app = Copying(Starlette(routes=starlette_routes()))
    resolve = asked()

    class Held:
        pass

    held = Held()
    gone = weakref.ref(held)
    scope = new_scope("/items/7", held=held)
    del held
    gc.disable()
    try:
        assert serve_asgi(app, scope, lambda status: (status, resolve(scope), None))[1] == "/items/{number:int}"
        assert resolve(scope) == "/items/{number:int}"
        scope.clear()
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("late", [False, True])
def test_default_application_of_a_router_has_no_endpoint(late: bool) -> None:
    """What a router hands on has matched no route of it, and yet may be answered, by routers made late, too."""

    def handing_on() -> Router:
        return Router([Route("/x", ok), Mount("/m", app=Router([Route("/{name}", ok)], default=plain))], default=plain)

    async def made_late(scope: Any, receive: Any, send: Any) -> None:
        await handing_on()(dict(scope), receive, send)

    app = made_late if late else handing_on()
    assert asgi(app, "/a") == (200, None, None)
    assert asgi(app, "/m/a/b") == (200, None, None)
    mounted = Starlette(routes=[Mount("/v", app)])
    # Of a router that is not watched nothing but the mount is known.
    assert asgi(mounted, "/v/a") == (200, "/v/{path:path}" if late else None, None)
    assert asgi(mounted, "/v/x") == (200, "/v/{path:path}" if late else "/v/x", None)


async def sorry(request: Request, call_next: Any) -> Response:
    try:
        response: Response = await call_next(request)
    except LookupError:
        return PlainTextResponse("sorry", 500)
    return response


def test_exception_answered_by_middleware_is_reported() -> None:
    """The exception is told that a middleware has answered, or an application that is mounted behind one."""
    routes = [
        Route("/boom", boom),
        Route("/unavailable", unavailable),
        Mount("/sub", Starlette(routes=[Route("/boom", boom)])),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=sorry)])
    assert asgi(app, "/boom") == (500, "/boom", "LookupError")
    assert asgi(app, "/unavailable") == (503, "/unavailable", None)
    for dispatch in (sorry, through):
        app = Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=dispatch)])
        assert asgi(app, "/sub/boom") == (500, "/sub/boom", "LookupError")
    app = Starlette(routes=routes, middleware=[Middleware(Copying), Middleware(BaseHTTPMiddleware, dispatch=sorry)])
    assert asgi(app, "/boom") == (500, "/boom", "LookupError")


def answer_in_thread(request: Request, exc: Exception) -> Response:
    return PlainTextResponse("sorry", 502)


@pytest.mark.parametrize("handler", [answer, answer_in_thread])
def test_exception_answered_by_a_handler_below_middleware_is_reported(handler: Any) -> None:
    """The exception is told that a handler of the application's has answered below a middleware; once is enough."""
    handled = Starlette(
        routes=[Route("/boom", boom), Route("/gone", gone), Mount("/sub", Starlette(routes=[Route("/boom", boom)]))],
        exception_handlers={LookupError: handler, 404: handler},
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=through)],
    )
    for _ in range(2):
        assert asgi(handled, "/boom") == (502, "/boom", "LookupError")
        assert asgi(handled, "/gone") == (502, "/gone", None)
    inner = Starlette(routes=[Mount("/sub", handled)], middleware=[Middleware(BaseHTTPMiddleware, dispatch=through)])
    assert asgi(inner, "/sub/boom") == (502, "/sub/boom", "LookupError")


@pytest.mark.parametrize("set_by_it", [{}, {"app": object()}, {"app": object(), "router": object(), "route": object()}])
def test_scope_of_another_framework_with_the_same_keys_has_no_endpoint(set_by_it: dict[str, Any]) -> None:
    """Of a framework that uses the same names in the scope nothing is known, and nothing fails."""

    async def other(scope: Any, receive: Any, send: Any) -> None:
        scope.update(set_by_it, endpoint=other)
        await plain(scope, receive, send)

    assert asgi(other, "/items/7") == (200, None, None)


def fastapi_application() -> fastapi.FastAPI:
    app, sub, shop = fastapi.FastAPI(), fastapi.FastAPI(), fastapi.APIRouter(prefix="/shop")
    orders = fastapi.APIRouter()

    def number(number: int) -> int:
        return number

    def named(name: str) -> str:
        if name == "boom":
            raise LookupError(name)
        return name

    for where in (app, sub, orders):
        where.get("/items/{number}")(number)
        where.get("/names/{name}")(named)
    orders.add_route("/raw/{x}", ok)
    orders.mount("/mounted", Starlette(routes=[Route("/{name}/x", ok)]))
    shop.include_router(orders, prefix="/{lang}/orders")
    shop.include_router(orders, prefix="/baskets")
    app.include_router(shop, prefix="/v1")
    app.include_router(shop)
    app.mount("/sub", sub)
    app.mount("/plain", plain)
    app.add_route("/raw/{x:int}", ok)
    return app


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/items/7", (200, "/items/{number}", None)),
        ("/items/x", (422, "/items/{number}", "RequestValidationError")),
        ("/items/7/", (307, "<unmatched>", None)),
        ("/nowhere", (404, "<unmatched>", None)),
        ("/names/boom", (500, "/names/{name}", "LookupError")),
        ("/openapi.json", (200, "/openapi.json", None)),
        ("/raw/7", (200, "/raw/{x:int}", None)),
        ("/sub/items/7", (200, "/sub/items/{number}", None)),
        ("/sub/openapi.json", (200, "/sub/openapi.json", None)),
        ("/sub/nowhere", (404, "<unmatched>", None)),
        ("/plain/7", (200, "/plain/{path:path}", None)),
        ("/v1/shop/de/orders/items/7", (200, "/v1/shop/{lang}/orders/items/{number}", None)),
        ("/v1/shop/baskets/items/7", (200, "/v1/shop/baskets/items/{number}", None)),
        ("/shop/baskets/names/a", (200, "/shop/baskets/names/{name}", None)),
        ("/shop/baskets/raw/7", (200, "/shop/baskets/raw/{x}", None)),
        ("/shop/baskets/mounted/7/x", (200, "/shop/baskets/mounted/{name}/x", None)),
        ("/shop/baskets/nowhere", (404, "<unmatched>", None)),
    ],
)
def test_fastapi_endpoint_is_the_path_with_router_prefixes_and_mounts(path: str, expected: Told) -> None:
    """FastAPI's routes, those of included routers with their prefixes, and those of mounted applications."""
    assert asgi(fastapi_application(), path) == expected


def test_fastapi_mounted_in_starlette_and_reverse_has_the_full_path() -> None:
    """FastAPI in a Starlette, and the other way round."""
    app = Starlette(routes=[Mount("/{version}", fastapi_application())])
    assert asgi(app, "/v2/shop/baskets/items/7")[1] == "/{version}/shop/baskets/items/{number}"
    assert asgi(app, "/v2/raw/7")[1] == "/{version}/raw/{x:int}"
    outer = fastapi.FastAPI()
    outer.mount("/s", Starlette(routes=starlette_routes()))
    assert asgi(outer, "/s/items/7")[1] == "/s/items/{number:int}"
    assert asgi(outer, "/s/nowhere")[1] == "<unmatched>"


def test_known_endpoints_are_bounded_over_many_applications(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many applications a process makes, so many endpoints are remembered."""
    monkeypatch.setattr(starlette, "_MAX_KNOWN", 3)
    for _ in range(8):
        assert asgi(Starlette(routes=starlette_routes()), "/items/7", hidden="route")[1] == "/items/{number:int}"
        assert len(starlette._known) <= 3


def test_request_of_no_starlette_has_no_endpoint() -> None:
    """Nothing is said about a WSGI request, or one that no Starlette had."""
    assert asked()({"PATH_INFO": "/", "app": object()}) is None
    assert asked()({"type": "http", "path": "/"}) is None
