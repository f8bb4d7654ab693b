"""A WSGI application that writes each path that it has begun to the file ``begun``."""

from __future__ import annotations

import os
import time

begun = os.open("begun", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path != "/":
        os.write(begun, path.encode() + b"\n")
        time.sleep(0.002)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(path)))])
    return [path.encode()]
