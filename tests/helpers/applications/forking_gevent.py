"""A WSGI application whose ``/fork`` forks a child that runs the inherited gevent loop."""

from __future__ import annotations

import os
import time


def app(environ, start_response):
    if environ["PATH_INFO"] == "/fork" and not os.fork():
        time.sleep(2.5)  # gevent's, in the loop that the child has inherited
        os._exit(0)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
