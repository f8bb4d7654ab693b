"""A WSGI application whose ``/block`` blocks its thread or event loop while the file ``block`` exists."""

from __future__ import annotations

import os
import sys
import time


def block():
    monkey = sys.modules.get("gevent.monkey")
    sleep = monkey.get_original("time", "sleep") if monkey else time.sleep
    while os.path.exists("block"):
        sleep(0.02)


def app(environ, start_response):
    if environ["PATH_INFO"] == "/block":
        block()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
