"""The application of the framework tests, in Falcon, for WSGI."""

from __future__ import annotations

import falcon
import falcon.asgi
from werkzeug.middleware.dispatcher import DispatcherMiddleware


class Part:
    def __init__(self, act):
        self.act = act

    def on_get(self, req, resp, **taken):
        self.act(resp, **taken)


def raises(error):
    def act(resp):
        raise error

    return act


def item(resp, number):
    resp.text = str(number)


def unavailable(resp):
    resp.status = 503


def stream(resp):
    resp.stream = iter([b"a", b"b"])


def answer(req, resp, error, params):
    resp.status = 400


site = falcon.App()
site.add_route("/", Part(lambda resp: None))
site.add_route("/items/{number:int}", Part(item))
site.add_route("/gone", Part(raises(falcon.HTTPNotFound())))
site.add_route("/boom", Part(raises(LookupError("boom"))))
site.add_route("/handled", Part(raises(ValueError("handled"))))
site.add_route("/unavailable", Part(unavailable))
site.add_route("/stream", Part(stream))
site.add_error_handler(ValueError, answer)

app = DispatcherMiddleware(site, {"/v2": site})
