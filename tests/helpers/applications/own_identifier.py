"""A shop whose processes have identifiers of its own, from the environment."""

from __future__ import annotations

import os

from prometheus_client import Counter, values

values.ValueClass = values.MultiProcessValue(lambda: os.environ["NUMBER"])
orders = Counter("shop_orders", "Orders.")


def app(environ, start_response):
    orders.inc()
    start_response("200 OK", [("Content-Length", "0")])
    return []
