"""A WSGI application that loads only while the file ``closed`` does not exist."""

from __future__ import annotations

import os
import time

while os.path.exists("closed"):
    time.sleep(0.05)


def app(environ, start_response):
    if environ["PATH_INFO"] == "/hang":
        time.sleep(1000)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
