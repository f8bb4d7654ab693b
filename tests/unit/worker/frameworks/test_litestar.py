"""Litestar's templates, the exceptions that it answers, and what is mounted in it."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import litestar
import pytest
from django.core.asgi import get_asgi_application
from litestar.config.cors import CORSConfig
from litestar.exceptions import HTTPException
from litestar.types import Receive, Scope, Send
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount

from gunicorn_prom_hooks.worker.frameworks.annotations import notes
from gunicorn_prom_hooks.worker.frameworks.litestar import REACHED
from tests.helpers import django_app  # noqa: F401 - configures Django
from tests.helpers.frameworks import Told, asgi, asked, copied, new_scope, only, serve_asgi


@litestar.get(["/", "/items/{number:int}"])
async def item(request: litestar.Request[Any, Any, Any]) -> str:
    return str(request.path_params)


@litestar.get("/boom")
async def boom() -> str:
    raise LookupError("boom")


@litestar.get("/handled")
async def handled() -> str:
    raise ZeroDivisionError("handled")


@litestar.get("/gone")
async def gone() -> str:
    raise HTTPException(status_code=404)


@litestar.get("/unavailable")
async def unavailable() -> str:
    raise HTTPException(status_code=503)


@litestar.asgi("/plain", is_mount=True, copy_scope=True)
async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("plain")(scope, receive, send)  # type: ignore[arg-type]


@litestar.asgi("/site", is_mount=True, copy_scope=True)
async def site(scope: Scope, receive: Receive, send: Send) -> None:
    await DJANGO(scope, receive, send)


DJANGO = get_asgi_application()


def answer(request: Any, exc: Exception) -> litestar.Response[str]:
    return litestar.Response("handled", status_code=400)


def application(**more: Any) -> litestar.Litestar:
    shop = litestar.Router("/shop/{lang:str}", route_handlers=[item, plain])
    return litestar.Litestar(
        [item, boom, handled, gone, unavailable, plain, site, shop],
        exception_handlers={ZeroDivisionError: answer},
        **more,
    )


@pytest.fixture(autouse=True)
def only_litestar(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "litestar", "django", "starlette")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", (200, "/", None)),
        ("/items/7", (200, "/items/{number}", None)),
        ("/items/x", (404, "<unmatched>", None)),
        ("/nowhere", (404, "<unmatched>", None)),
        ("/shop/de/items/7", (200, "/shop/{lang}/items/{number}", None)),
        ("/gone", (404, "/gone", None)),
        ("/boom", (500, "/boom", "LookupError")),
        ("/unavailable", (503, "/unavailable", None)),
        ("/handled", (400, "/handled", "ZeroDivisionError")),
        ("/plain/a/7", (200, "/plain/{path:path}", None)),
        ("/site/items/7/", (200, "/items/<int:pk>/", None)),
        ("/site/nowhere/", (404, "<unmatched>", None)),
    ],
)
def test_endpoint_is_the_template_and_the_exception_is_reported(path: str, expected: Told) -> None:
    """The template, also of a copy of the scope; where something is mounted in Litestar, that knows more."""
    app: Any = application()
    assert asgi(app, path) == expected
    assert asgi(copied(app), path) == expected


def test_response_before_routing_has_no_template_and_405_is_unmatched() -> None:
    """A wrong method matches no route; of what is answered before a route is looked for nothing is known."""
    app = application(cors_config=CORSConfig())
    assert asgi(app, "/items/7", "DELETE") == (405, "<unmatched>", None)
    asks = [(b"origin", b"http://a"), (b"access-control-request-method", b"GET")]
    assert asgi(app, "/items/7", "OPTIONS", headers=asks) == (204, None, None)


def test_endpoint_begins_with_mount_or_root_path_if_the_path_has_it() -> None:
    """The path that the application is mounted at comes first, unless a proxy has taken it off."""
    app: Any = application()
    mounted = Starlette(routes=[Mount("/v2", app)])
    assert asgi(mounted, "/v2/items/7")[1] == "/v2/items/{number}"
    assert asgi(mounted, "/v2/nowhere")[1] == "<unmatched>"
    assert asgi(application(), "/api/items/7", root_path="/api")[1] == "/api/items/{number}"
    assert asgi(application(), "/items/7", root_path="/api")[1] == "/items/{number}"


def test_hooks_are_added_once_by_two_resolvers() -> None:
    """A worker that looks for what names endpoints again changes nothing."""
    app = application()
    asked()
    handler, hooks = app.asgi_handler, list(app.after_exception)
    asked()
    assert app.asgi_handler is handler
    assert app.after_exception == hooks


def test_noted_scope_has_no_reference_cycle() -> None:
    """What is noted on a request leaves no circle behind for the garbage collector."""
    app = application()
    resolve = asked()

    class Held:
        pass

    held = Held()
    gone = weakref.ref(held)
    scope = new_scope("/plain/a", held=held)
    del held
    serve_asgi(app, scope, lambda status: (status, resolve(scope), None))
    gc.collect()  # Litestar's own circles
    held_by = [each for each in gc.get_objects() if type(each) is dict and each.get("held") is gone()]
    assert resolve(scope) == "/plain/{path:path}"
    assert notes(scope)[REACHED] == "/plain/{path:path}"
    assert all(each is scope for each in held_by)
