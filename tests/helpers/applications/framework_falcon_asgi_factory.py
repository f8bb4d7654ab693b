"""A factory of the application of the framework tests, in Falcon, for ASGI."""

from __future__ import annotations

import falcon
import falcon.asgi


async def parts():
    yield b"a"
    yield b"b"


class Part:
    def __init__(self, act):
        self.act = act

    async def on_get(self, req, resp, **taken):
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
    resp.stream = parts()


async def answer(req, resp, error, params):
    resp.status = 400


def app():
    application = falcon.asgi.App()
    application.add_route("/", Part(lambda resp: None))
    application.add_route("/items/{number:int}", Part(item))
    application.add_route("/gone", Part(raises(falcon.HTTPNotFound())))
    application.add_route("/boom", Part(raises(LookupError("boom"))))
    application.add_route("/handled", Part(raises(ValueError("handled"))))
    application.add_route("/unavailable", Part(unavailable))
    application.add_route("/stream", Part(stream))
    application.add_error_handler(ValueError, answer)
    return application
