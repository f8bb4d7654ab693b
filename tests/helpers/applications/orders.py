"""A WSGI application with a counter."""

from __future__ import annotations

from prometheus_client import Counter

orders = Counter("shop_orders", "Orders.")


def app(environ, start_response):
    orders.inc()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
