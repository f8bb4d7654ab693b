"""An application with metrics of its own, in one file, and paths for what its workers do beside it."""

from __future__ import annotations

import os
import time

from prometheus_client import Counter, Gauge

ORDERS = Counter("orders", "Orders.", ["kind"])
QUEUE = Gauge("queue", "Queue.", multiprocess_mode="livesum")


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/boom":
        raise ValueError("boom")
    if path == "/count":
        ORDERS.labels("one").inc()
        QUEUE.set(3)
    if path.startswith("/new/"):
        ORDERS.labels(path).inc()
    if path == "/fork":
        child = os.fork()
        if child == 0:
            ORDERS.labels("forked").inc()
            os._exit(0)
        os.waitpid(child, 0)
    if path == "/hang":
        time.sleep(1000)
    if path == "/big":
        start_response("200 OK", [("Content-Length", str(40 * 1024 * 1024))])
        return (b"x" * 65536 for _ in range(640))
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


class Idle:
    """A dirty application that does nothing."""

    def init(self):
        pass

    def __call__(self, action, *args, **kwargs):
        pass

    def close(self):
        pass
