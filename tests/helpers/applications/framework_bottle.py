"""The application of the framework tests, in Bottle."""

from __future__ import annotations

import bottle
from werkzeug.middleware.dispatcher import DispatcherMiddleware

site = bottle.Bottle()
site.route("/", callback=lambda: "ok")
site.route("/items/<number:int>", callback=lambda number: f"{number}")
site.route("/gone", callback=lambda: bottle.abort(404))


@site.route("/boom")
def boom():
    raise LookupError("boom")


@site.route("/handled")
def handled():
    return bottle.HTTPResponse(status=400)


@site.route("/unavailable")
def unavailable():
    return bottle.HTTPResponse(status=503)


@site.route("/stream")
def stream():
    yield b"a"
    yield b"b"


app = DispatcherMiddleware(site, {"/v2": site})
