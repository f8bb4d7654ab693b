"""Flask tells its rules and the exceptions that it makes a 500 of."""

from __future__ import annotations

from collections.abc import Iterator

import flask
import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tests.helpers.frameworks import copied, only, wsgi


def str_of(number: int) -> str:
    return str(number)


def application() -> flask.Flask:
    app = flask.Flask("app", static_folder=None)
    shop = flask.Blueprint("shop", "shop", url_prefix="/shop/<lang>")
    app.add_url_rule("/items/<int:number>", "item", str_of)
    shop.add_url_rule("/<path:where>", "where", lambda lang, where: where)
    app.register_blueprint(shop)

    @app.get("/gone")
    def gone() -> str:
        flask.abort(404)

    @app.get("/boom")
    def boom() -> str:
        raise LookupError("boom")

    @app.get("/unavailable")
    def unavailable() -> str:
        flask.abort(503)

    @app.get("/handled")
    def handled() -> str:
        raise ValueError("handled")

    @app.get("/stream")
    def stream() -> flask.Response:
        def parts() -> Iterator[str]:
            yield flask.request.path
            yield "."

        return flask.Response(flask.stream_with_context(parts()))

    @app.errorhandler(ValueError)
    def answer(error: ValueError) -> tuple[str, int]:
        return "handled", 400

    return app


@pytest.fixture(autouse=True)
def only_flask(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "flask")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/items/7", (200, "/items/<int:number>", None)),
        ("/items/x", (404, "<unmatched>", None)),
        ("/shop/de/a/b", (200, "/shop/<lang>/<path:where>", None)),
        ("/gone", (404, "/gone", None)),
        ("/boom", (500, "/boom", "LookupError")),
        ("/unavailable", (503, "/unavailable", None)),
        ("/handled", (400, "/handled", "ValueError")),
        ("/stream", (200, "/stream", None)),
    ],
)
def test_endpoint_is_the_rule_and_an_exception_that_was_answered_is_reported(
    path: str, expected: tuple[int, str, str | None]
) -> None:
    """The rule, also where the view answers 404; the exception where Flask or the application's handler answers it."""
    assert wsgi(application(), path) == expected


def test_method_not_allowed_is_unmatched() -> None:
    """Flask has no rule for a method that is not allowed."""
    assert wsgi(application(), "/items/7", "DELETE") == (405, "<unmatched>", None)


def test_endpoint_begins_with_the_path_of_its_mount() -> None:
    """The path that the application is mounted at comes first, in the path or from the server."""
    mounted = DispatcherMiddleware(flask.Flask("outer"), {"/v2": application()})
    assert wsgi(mounted, "/v2/items/7") == (200, "/v2/items/<int:number>", None)
    assert wsgi(mounted, "/items/7") == (404, "<unmatched>", None)
    assert wsgi(application(), "/items/7", SCRIPT_NAME="/api") == (200, "/api/items/<int:number>", None)


def test_copied_environ_keeps_endpoint_and_exception() -> None:
    """A middleware that hands on a copy of the environ loses neither the rule nor the exception."""
    copying = copied(application())
    assert wsgi(copying, "/items/7") == (200, "/items/<int:number>", None)
    assert wsgi(copying, "/boom") == (500, "/boom", "LookupError")
    assert wsgi(copying, "/nowhere") == (404, "<unmatched>", None)


def test_handled_500_keeps_its_exception() -> None:
    """An application's own page for errors does not hide which exception it was."""
    app = application()
    app.register_error_handler(500, lambda error: ("sorry", 502))
    assert wsgi(app, "/boom") == (502, "/boom", "LookupError")


def test_exception_that_the_applications_handler_answers_with_a_5xx_is_reported() -> None:
    """Its class is told, for the first request as for later ones; what ``abort`` raises is an answer."""
    app = application()
    app.register_error_handler(LookupError, lambda error: ("sorry", 503))
    app.register_error_handler(503, lambda error: ("busy", 503))
    for _ in range(2):
        assert wsgi(app, "/boom") == (503, "/boom", "LookupError")
        assert wsgi(app, "/unavailable") == (503, "/unavailable", None)
        assert wsgi(app, "/handled") == (400, "/handled", "ValueError")


def test_handler_that_fails_is_reported_with_what_it_raised() -> None:
    """The last exception is what Flask makes the 500 of."""
    app = application()

    @app.errorhandler(LookupError)
    def fail(error: LookupError) -> str:
        raise OSError("no template")

    assert wsgi(app, "/boom") == (500, "/boom", "OSError")


def test_handler_of_exceptions_can_be_called_with_the_name_of_its_parameter() -> None:
    """The application may call Flask's method itself, in each way in which it could before."""
    app = application()
    app.register_error_handler(LookupError, lambda error: ("sorry", 503))

    @app.get("/own")
    def own() -> tuple[str, int]:
        try:
            raise LookupError("own")
        except LookupError as error:
            answer = app.handle_user_exception(e=error)
            assert isinstance(answer, tuple)
            return "sorry", 503

    assert wsgi(app, "/own") == (503, "/own", "LookupError")
