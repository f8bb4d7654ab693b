"""Pyramid's route patterns, and the exceptions that exception views answer."""

from __future__ import annotations

from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPNotFound, HTTPServiceUnavailable
from pyramid.response import Response
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tests.helpers.frameworks import copied, only, wsgi


def view(request: Any) -> Response:
    what = request.matchdict["what"]
    if what == "gone":
        raise HTTPNotFound
    if what == "unavailable":
        raise HTTPServiceUnavailable
    if what == "boom":
        raise LookupError("boom")
    if what == "handled":
        raise ValueError("handled")
    return Response("ok")


def application() -> Any:
    with Configurator() as config:
        config.add_route("item", r"items/{number:\d+}/{what}")
        config.add_view(view, route_name="item")
        config.add_view(lambda request: Response("root"))
        config.add_exception_view(lambda exc, request: Response(status=500), context=LookupError)
        config.add_exception_view(lambda exc, request: Response(status=400), context=ValueError)
        return config.make_wsgi_app()


ITEM = r"/items/{number:\d+}/{what}"


@pytest.fixture(autouse=True)
def only_pyramid(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "pyramid")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/items/7/x", (200, ITEM, None)),
        ("/items/x/x", (404, None, None)),
        ("/items/7/gone", (404, ITEM, None)),
        ("/items/7/unavailable", (503, ITEM, None)),
        ("/items/7/boom", (500, ITEM, "LookupError")),
        ("/items/7/handled", (400, ITEM, "ValueError")),
        ("/", (200, None, None)),
    ],
)
def test_endpoint_is_the_route_pattern_and_none_with_traversal(
    path: str, expected: tuple[int, str | None, str | None]
) -> None:
    """The pattern; nothing where Pyramid goes on with traversal. A response that was raised is no exception."""
    assert wsgi(application(), path) == expected
    assert wsgi(copied(application()), path) == expected


def test_exception_without_a_view_is_raised() -> None:
    """It goes on to the server."""
    with Configurator() as config:
        config.add_route("item", "/{what}")
        config.add_view(view, route_name="item")
        app = config.make_wsgi_app()
    with pytest.raises(LookupError):
        wsgi(app, "/boom")


def test_endpoint_begins_with_the_path_of_its_mount() -> None:
    """The path that the application is mounted at comes first; each of several applications is listened to."""
    mounted = DispatcherMiddleware(application(), {"/v2": application()})
    assert wsgi(mounted, "/v2/items/7/x")[1] == "/v2" + ITEM
    assert wsgi(mounted, "/items/7/x")[1] == ITEM
