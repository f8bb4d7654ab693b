"""A WSGI application with a counter and a histogram of its own. It answers with the folder of their files."""

import os

from prometheus_client import Counter, Histogram

orders = Counter("shop_orders", "Orders.", ["kind"])
seconds = Histogram("shop_seconds", "Seconds.", ["kind"])


def app(environ, start_response):
    if environ["PATH_INFO"].startswith("/order"):
        orders.labels("plain").inc()
        seconds.labels("plain").observe(0.01)
    files = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    body = os.path.dirname(next((file for file in files if ".db" in file), "")).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
