"""Falcon's URI templates and swallowed exceptions, through an added middleware."""

from __future__ import annotations

from typing import Any

import falcon
import falcon.asgi
import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tests.helpers.frameworks import asgi, asked, copied, only, serve_wsgi, wsgi


def act(path: str, resp: Any) -> None:
    """What both kinds of resources do."""
    if path.endswith("/boom"):
        raise LookupError("boom")
    if path.endswith("/handled"):
        raise ValueError("handled")
    if path.endswith("/gone"):
        raise falcon.HTTPNotFound
    if path.endswith("/unavailable"):
        raise falcon.HTTPServiceUnavailable
    resp.text = "ok"


class Item:
    def on_get(self, req: falcon.Request, resp: falcon.Response, **taken: Any) -> None:
        act(req.path, resp)


class AsyncItem:
    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, **taken: Any) -> None:
        act(req.path, resp)


def handle(req: Any, resp: Any, error: Exception, params: Any) -> None:
    resp.status = falcon.HTTP_400


async def handle_async(req: Any, resp: Any, error: Exception, params: Any) -> None:
    resp.status = falcon.HTTP_400


def application(**options: Any) -> falcon.App[Any, Any]:
    app = falcon.App(**options)
    app.add_route("/items/{number:int}/{what}", Item())
    app.add_error_handler(ValueError, handle)
    return app


def asgi_application() -> falcon.asgi.App[Any, Any]:
    app = falcon.asgi.App()
    app.add_route("/items/{number:int}/{what}", AsyncItem())
    app.add_error_handler(ValueError, handle_async)
    return app


ITEM = "/items/{number:int}/{what}"
REQUESTS = [
    ("GET", "/items/7/x", (200, ITEM, None)),
    ("DELETE", "/items/7/x", (405, ITEM, None)),
    ("GET", "/items/x/x", (404, "<unmatched>", None)),
    ("GET", "/nowhere", (404, "<unmatched>", None)),
    ("GET", "/items/7/gone", (404, ITEM, None)),
    ("GET", "/items/7/boom", (500, ITEM, "LookupError")),
    ("GET", "/items/7/handled", (400, ITEM, "ValueError")),
    ("GET", "/items/7/unavailable", (503, ITEM, None)),
]


@pytest.fixture(autouse=True)
def only_falcon(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "falcon")


@pytest.mark.parametrize(("method", "path", "expected"), REQUESTS)
def test_endpoint_is_the_uri_template_and_the_exception_is_reported_with_wsgi(
    method: str, path: str, expected: tuple[int, str, str | None]
) -> None:
    """The template, whatever the method; the exception where Falcon told, which only a 5xx makes a failure of."""
    assert wsgi(application(), path, method) == expected
    assert wsgi(copied(application()), path, method) == expected


@pytest.mark.parametrize(("method", "path", "expected"), REQUESTS)
def test_endpoint_is_the_uri_template_and_the_exception_is_reported_with_asgi(
    method: str, path: str, expected: tuple[int, str, str | None]
) -> None:
    """The same with ASGI."""
    assert asgi(asgi_application(), path, method) == expected
    assert asgi(copied(asgi_application()), path, method) == expected


def test_sink_has_no_template_and_is_unmatched_only_with_405() -> None:
    """What a sink answers is matched by no route, and yet there."""
    app, asgi_app = application(), asgi_application()
    app.add_sink(lambda req, resp, **taken: None, "/sink")

    async def sink(req: Any, resp: Any, **taken: Any) -> None:
        resp.status = 405 if req.path.endswith("/405") else 200

    asgi_app.add_sink(sink, "/sink")
    assert wsgi(app, "/sink/a") == (200, None, None)
    assert asgi(asgi_app, "/sink/a") == (200, None, None)
    assert asgi(asgi_app, "/sink/405") == (405, "<unmatched>", None)


@pytest.mark.parametrize("independent", [True, False])
def test_middleware_of_the_application_runs_and_endpoint_is_known(independent: bool) -> None:
    """Middleware of the application's own goes on working, whether it depends on that before it or not."""
    seen = []

    class Own:
        def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
            seen.append(req.path)

        def process_response(self, req: Any, resp: Any, resource: object, req_succeeded: bool) -> None:
            seen.append(resp.status)

    app = application(middleware=[Own()], independent_middleware=independent)
    assert wsgi(app, "/items/7/x") == (200, ITEM, None)
    assert seen == ["/items/7/x", falcon.HTTP_200]
    assert wsgi(app, "/items/7/boom") == (500, ITEM, "LookupError")


def test_endpoint_begins_with_the_path_of_its_mount() -> None:
    """The path that the application is mounted at comes first."""
    mounted = DispatcherMiddleware(application(), {"/v2": application()})
    assert wsgi(mounted, "/v2/items/7/x")[1] == "/v2" + ITEM
    assert wsgi(mounted, "/items/7/x")[1] == ITEM


def test_error_reporter_of_the_application_is_kept_and_endpoint_is_known() -> None:
    """A place that the application has taken for itself stays its own; the route is known nevertheless."""
    reported = []
    app = application()
    app.set_error_reporter(lambda req, error, params, handled: reported.append(error))
    assert wsgi(app, "/items/7/boom") == (500, ITEM, None)
    assert [type(error) for error in reported] == [LookupError]


def test_application_without_an_error_reporter_has_its_endpoint() -> None:
    """An application that has no place for a reporter tells its routes all the same."""

    class Old(falcon.App[Any, Any]):
        def __getattribute__(self, name: str) -> Any:
            if name in ("_report_error", "set_error_reporter") and asking:
                raise AttributeError(name)
            return super().__getattribute__(name)

    asking = False
    app = Old()
    app.add_route("/items/{number}", Item())
    asking = True
    resolve = asked()
    asking = False
    assert resolve(serve_wsgi(app, "/items/7")[1]) == "/items/{number}"
