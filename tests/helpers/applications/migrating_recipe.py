"""An application with prometheus_client's multiprocess mode, as its documentation has it for gunicorn."""

from __future__ import annotations

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Summary,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

orders = Counter("shop_orders", "Orders taken.", ["kind"])
seconds = Histogram("shop_search_seconds", "Time of a search.")
sizes = Summary("shop_order_bytes", "Size of an order.")
largest = Gauge("shop_largest_order", "Largest order.", multiprocess_mode="max")
sessions = Gauge("shop_sessions", "Sessions.", multiprocess_mode="livesum")


def app(environ, start_response):
    path = environ["PATH_INFO"]
    body, kind = b"ok", "text/plain"
    if path.startswith("/order/"):
        amount = int(path[7:])
        orders.labels("odd" if amount % 2 else "even").inc()
        seconds.observe(amount / 10)
        sizes.observe(amount)
        largest.set(100 * amount)
        sessions.inc()
    if path == "/metrics":
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        body, kind = generate_latest(registry), CONTENT_TYPE_LATEST
    start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]
