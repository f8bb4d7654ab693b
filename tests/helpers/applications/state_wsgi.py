"""A WSGI application object with a state that hooks can change."""

from __future__ import annotations

from typing import ClassVar


class App:
    state: ClassVar[dict[str, bool]] = {}

    def __call__(self, environ, start_response):
        body = repr(sorted(self.state)).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]


class Middleware:
    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        self.app.state["middleware"] = True
        return self.app(environ, start_response)


app = App()
