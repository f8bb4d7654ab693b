"""A WSGI application that logs to the logger of gunicorn."""

from __future__ import annotations

import logging

log = logging.getLogger("gunicorn.error")


def app(environ, start_response):
    if environ["PATH_INFO"] == "/log":
        log.critical("from the application")
    if environ["PATH_INFO"] == "/boom":
        raise ValueError("boom")
    start_response("200 OK", [("Content-Length", "0")])
    return []
