"""A WSGI application with an upstream whose TLS fails."""

from __future__ import annotations

import ssl


def app(environ, start_response):
    if environ["PATH_INFO"] == "/upstream":
        raise ssl.SSLError(1, "upstream")
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
