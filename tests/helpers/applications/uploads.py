"""A WSGI application that reads the request body."""

from __future__ import annotations


def app(environ, start_response):
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
