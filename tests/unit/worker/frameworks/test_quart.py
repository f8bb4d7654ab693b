"""Quart tells its rules and the exceptions that it makes a 500 of."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import quart
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.helpers.frameworks import Told, asgi, asked, copied, new_scope, only


def application() -> quart.Quart:
    app = quart.Quart("app", static_folder=None)
    shop = quart.Blueprint("shop", "shop", url_prefix="/shop/<lang>")

    @shop.get("/<path:where>")
    async def place(lang: str, where: str) -> str:
        return where

    @app.get("/items/<int:number>")
    async def item(number: int) -> str:
        return str(number)

    @app.get("/thread/<int:number>")
    def in_thread(number: int) -> str:
        return str(number)

    @app.get("/folder/")
    async def folder() -> str:
        return ""

    @app.get("/gone")
    async def gone() -> str:
        quart.abort(404)

    @app.get("/boom")
    async def boom() -> str:
        raise LookupError("boom")

    @app.get("/unavailable")
    async def unavailable() -> tuple[str, int]:
        return "", 503

    @app.get("/handled")
    async def handled() -> str:
        raise ValueError("handled")

    @app.errorhandler(ValueError)
    async def answer(error: ValueError) -> tuple[str, int]:
        return "handled", 400

    @app.websocket("/ws/<room>")
    async def talk(room: str) -> None:
        await quart.websocket.accept()

    app.register_blueprint(shop)
    return app


@pytest.fixture(autouse=True)
def only_quart(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "quart")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/items/7", (200, "/items/<int:number>", None)),
        ("/thread/7", (200, "/thread/<int:number>", None)),
        ("/items/x", (404, "<unmatched>", None)),
        ("/folder", (308, "<unmatched>", None)),
        ("/shop/de/a/b", (200, "/shop/<lang>/<path:where>", None)),
        ("/gone", (404, "/gone", None)),
        ("/boom", (500, "/boom", "LookupError")),
        ("/unavailable", (503, "/unavailable", None)),
        ("/handled", (400, "/handled", "ValueError")),
    ],
)
def test_endpoint_is_the_rule_and_an_exception_that_was_answered_is_reported(path: str, expected: Told) -> None:
    """The rule, also where the view answers 404; an exception that was answered; of a copy, too."""
    app: Any = application()
    assert asgi(app, path) == expected
    assert asgi(copied(app), path) == expected


def test_exception_that_the_applications_handler_answers_with_a_5xx_is_reported() -> None:
    """Its class is told, for the first request as for later ones; what ``abort`` raises is an answer."""
    app = application()

    @app.errorhandler(LookupError)
    @app.errorhandler(503)
    async def sorry(error: Exception) -> tuple[str, int]:
        return "sorry", 503

    @app.get("/busy")
    async def busy() -> str:
        quart.abort(503)

    served: Any = app
    for _ in range(2):
        assert asgi(served, "/boom") == (503, "/boom", "LookupError")
        assert asgi(served, "/busy") == (503, "/busy", None)
        assert asgi(served, "/handled") == (400, "/handled", "ValueError")


def test_method_not_allowed_is_unmatched() -> None:
    """Quart has no rule for a method that is not allowed."""
    assert asgi(application(), "/items/7", "DELETE") == (405, "<unmatched>", None)


def test_endpoint_begins_with_the_path_of_its_mount() -> None:
    """The path that the application is mounted at comes first."""
    app: Any = application()
    mounted = Starlette(routes=[Mount("/v2", app)])
    assert asgi(mounted, "/v2/items/7")[1] == "/v2/items/<int:number>"
    assert asgi(application(), "/api/items/7", root_path="/api")[1] == "/api/items/<int:number>"


def test_endpoint_of_a_websocket_is_its_rule() -> None:
    """The rule of a websocket is told like any other."""
    app, resolve = application(), asked()
    scope = {**new_scope("/ws/7"), "type": "websocket", "scheme": "ws", "subprotocols": []}
    told: list[str | None] = []

    async def serve() -> None:
        messages = [{"type": "websocket.connect"}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await asyncio.sleep(60)
            raise AssertionError

        async def send(message: Any) -> None:
            if message["type"] == "websocket.accept":
                told.append(resolve(scope))

        await app(scope, receive, send)  # type: ignore[arg-type]

    asyncio.run(serve())
    assert told == ["/ws/<room>"]
