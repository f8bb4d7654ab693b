"""The application of the framework tests, in Flask."""

from __future__ import annotations

import flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

flask_app = flask.Flask("app")
shop = flask.Blueprint("shop", "shop", url_prefix="/items")
flask_app.add_url_rule("/", "root", lambda: "ok")
shop.add_url_rule("/<int:number>", "item", lambda number: f"{number}")
flask_app.register_blueprint(shop)


@flask_app.get("/gone")
def gone():
    flask.abort(404)


@flask_app.get("/boom")
def boom():
    raise LookupError("boom")


@flask_app.get("/handled")
def handled():
    raise ValueError("handled")


@flask_app.errorhandler(ValueError)
def answer(error):
    return "handled", 400


@flask_app.get("/unavailable")
def unavailable():
    return "", 503


@flask_app.get("/stream")
def stream():
    def parts():
        yield flask.request.path
        yield "."

    return flask.Response(flask.stream_with_context(parts()))


app = DispatcherMiddleware(flask_app, {"/v2": flask_app})
