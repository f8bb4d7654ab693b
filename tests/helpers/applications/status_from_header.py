"""A WSGI application that answers with the status in the header ``X-Status``."""

from __future__ import annotations


def app(environ, start_response):
    start_response(environ.get("HTTP_X_STATUS", "200") + " x", [("Content-Length", "0")])
    return []
