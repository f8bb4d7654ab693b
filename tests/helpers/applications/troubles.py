"""The default application, with requests that block as long as a file is there, and with a memory leak."""

from __future__ import annotations

from tests.helpers.applications import blocking_wsgi, default

kept: list[bytes] = []


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/block":
        return blocking_wsgi.app(environ, start_response)
    if path == "/leak":
        kept.append(b"x" * 2**18)
    return default.app(environ, start_response)
