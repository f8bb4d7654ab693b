"""Bottle's rules, and what is mounted in it."""

from __future__ import annotations

from typing import Any

import bottle
import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tests.helpers.frameworks import asked, copied, only, wsgi


def application() -> Any:
    app = bottle.Bottle()

    @app.route("/items/<number:int>")  # type: ignore[untyped-decorator]
    def item(number: int) -> str:
        return str(number)

    @app.route("/gone")  # type: ignore[untyped-decorator]
    def gone() -> None:
        bottle.abort(404)

    @app.route("/boom")  # type: ignore[untyped-decorator]
    def boom() -> None:
        raise LookupError("boom")

    return app


@pytest.fixture(autouse=True)
def only_bottle(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "bottle")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/items/7", (200, "/items/<number:int>", None)),
        ("POST", "/items/7", (405, "<unmatched>", None)),
        ("GET", "/items/x", (404, "<unmatched>", None)),
        ("GET", "/gone", (404, "/gone", None)),
        ("GET", "/boom", (500, "/boom", None)),
    ],
)
def test_endpoint_is_the_rule_and_the_exception_is_not_reported(
    method: str, path: str, expected: tuple[int, str, str | None]
) -> None:
    """The rule, also where the callback aborts, and of a copy; Bottle does not report the exception."""
    assert wsgi(application(), path, method) == expected
    assert wsgi(copied(application()), path, method) == expected


def test_mounted_rule_has_the_path_of_its_mount() -> None:
    """The mount comes first, whether Bottle merges the routes or calls the other application, or a server mounts it."""
    outer = bottle.Bottle()
    outer.route("/<name>", callback=lambda name: name)
    child = application()
    outer.mount("/merged/", application())
    outer.mount("/called/", child.wsgi)
    outer.mount("/deep/er/", application().wsgi)
    assert wsgi(outer, "/merged/items/7") == (200, "/merged/items/<number:int>", None)
    assert wsgi(outer, "/called/items/7") == (200, "/called/items/<number:int>", None)
    assert wsgi(outer, "/deep/er/items/7") == (200, "/deep/er/items/<number:int>", None)
    assert wsgi(outer, "/items") == (200, "/<name>", None)
    assert wsgi(outer, "/called/nowhere")[0] == 404
    assert wsgi(DispatcherMiddleware(outer, {"/v2": child}), "/v2/items/7")[1] == "/v2/items/<number:int>"
    assert wsgi(child, "/items/7", SCRIPT_NAME="/api")[1] == "/api/items/<number:int>"


def test_mounted_bottle_without_a_matching_route_is_unmatched() -> None:
    """Only the mount has matched: that is no route. Another application's mount is as much as there is to know."""
    outer, inner = bottle.Bottle(), application()
    with pytest.warns(DeprecationWarning, match="mount"):
        outer.mount("/called", inner)
    outer.mount("/plain/", lambda environ, start: start("200 OK", []) and [])
    assert wsgi(outer, "/called/items/7")[1] == "/called/items/<number:int>"
    assert wsgi(outer, "/called/nowhere") == (404, "<unmatched>", None)
    assert wsgi(outer, "/plain/items/7") == (200, "/plain/<:re:.*>", None)


def test_copied_environ_below_a_mount_keeps_the_rule() -> None:
    """The Bottle that was mounted knows more than the one in front of it."""
    outer = bottle.Bottle()
    outer.mount("/called/", copied(application()))
    assert wsgi(outer, "/called/items/7") == (200, "/called/items/<number:int>", None)
    assert wsgi(outer, "/called/nowhere")[:2] == (404, "<unmatched>")


def test_response_before_routing_has_no_rule() -> None:
    """A response of a hook before routing has no template; our hook is added once."""
    app = application()

    @app.hook("before_request")  # type: ignore[untyped-decorator]
    def refuse() -> None:
        bottle.abort(int(bottle.request.query.status))

    assert wsgi(app, "/items/7?status=401") == (401, None, None)
    assert wsgi(app, "/items/7?status=404") == (404, "<unmatched>", None)
    assert len(app._hooks["after_request"]) == 1


def test_path_rewritten_by_a_hook_keeps_rule_and_mount() -> None:
    """A hook that takes the slash off the path, as Bottle's documentation has it, changes nothing about the rule."""
    app = application()

    @app.hook("before_request")  # type: ignore[untyped-decorator]
    def strip() -> None:
        bottle.request.environ["PATH_INFO"] = bottle.request.environ["PATH_INFO"].rstrip("/")

    assert wsgi(app, "/items/7/", SCRIPT_NAME="/api") == (200, "/api/items/<number:int>", None)


def test_path_that_is_not_ascii_has_its_rule() -> None:
    """The environ has such a path twice, decoded in two ways."""
    app = bottle.Bottle()
    app.route("/<name>/x", callback=lambda name: "ok")
    path = "/é/x".encode().decode("latin-1")
    assert wsgi(app, path) == (200, "/<name>/x", None)
    assert wsgi(app, path, SCRIPT_NAME="/api") == (200, "/api/<name>/x", None)


def test_environ_of_no_bottle_request_has_no_rule() -> None:
    """Of a request that Bottle had nothing to do with it knows nothing."""
    assert asked()({"PATH_INFO": "/"}) is None
