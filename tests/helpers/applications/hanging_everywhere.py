"""A worker that hangs: its main thread too, and without letting other greenlets run."""

from __future__ import annotations

import os
import signal
import threading
import time

WORKER = os.environ["WORKER"]


def hang_here():
    while WORKER == "gevent":
        pass  # gevent's sleep would not keep the others from running
    time.sleep(1000)


signal.signal(signal.SIGUSR2, lambda *_: hang_here())


def app(environ, start_response):
    if environ["PATH_INFO"] == "/hang/7":
        if WORKER == "gthread":
            # The heartbeat comes from the main thread: stop that one too.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)
        hang_here()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
