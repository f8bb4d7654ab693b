"""A WSGI application whose ``/hang`` stops the main thread too."""

from __future__ import annotations

import signal
import threading
import time


def hang_here():
    time.sleep(1000)


signal.signal(signal.SIGUSR2, lambda *_: hang_here())


def app(environ, start_response):
    if environ["PATH_INFO"] == "/hang":
        if threading.current_thread() is not threading.main_thread():
            # The heartbeat of a gthread worker comes from its main thread: stop that one too.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)
        hang_here()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
