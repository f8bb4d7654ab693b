"""A WSGI application with a counter and a histogram of its own. At /files it answers with their folder."""

import os

from prometheus_client import Counter, Histogram

orders = Counter("shop_orders", "Orders.", ["kind"])
seconds = Histogram("shop_seconds", "Seconds.", ["kind"])


def app(environ, start_response):
    counter, histogram = orders.labels("plain"), seconds.labels("plain")
    if environ["PATH_INFO"].startswith("/order"):
        counter.inc()
        histogram.observe(0.01)
    body = b""
    if environ["PATH_INFO"] == "/files":
        with open("/proc/self/maps") as maps:
            files = [line.split(maxsplit=5)[5] for line in maps if ".db" in line]
        body = os.path.dirname(files[0]).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
