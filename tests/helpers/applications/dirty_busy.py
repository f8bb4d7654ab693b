"""A WSGI application that passes its path to a dirty application."""

from __future__ import annotations

import os
import time

from gunicorn.dirty import DirtyApp, get_dirty_client


class Busy(DirtyApp):
    def burn(self, seconds):
        end = time.process_time() + seconds
        while time.process_time() < end:
            sum(range(10000))
        return os.getpid()

    def fork(self):
        pid = os.fork()
        if not pid:
            time.sleep(1000)
        return pid


def app(environ, start_response):
    action, _, argument = environ["PATH_INFO"][1:].partition("/")
    body = b""
    if action:
        body = str(get_dirty_client().execute("app:Busy", action, *map(float, filter(None, [argument])))).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
