"""A WSGI application whose forked child logs to the logger of gunicorn."""

from __future__ import annotations

import logging
import os


def app(environ, start_response):
    if environ["PATH_INFO"] == "/fork":
        pid = os.fork()
        if not pid:
            logging.getLogger("gunicorn.error").critical("from a child")
            os._exit(0)
        os.waitpid(pid, 0)
    start_response("200 OK", [("Content-Length", "0")])
    return []
