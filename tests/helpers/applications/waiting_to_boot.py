"""A WSGI application that loads only while the file ``wait`` does not exist."""

from __future__ import annotations

import os
import time

while os.path.exists("wait"):
    time.sleep(0.05)


def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return []
