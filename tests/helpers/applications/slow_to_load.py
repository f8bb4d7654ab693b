"""A WSGI application that takes 0.3 s to load."""

from __future__ import annotations

import time

time.sleep(0.3)


def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return []
