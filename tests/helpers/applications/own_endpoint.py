"""A shop with metrics of every type, and a /metrics of its own."""

from __future__ import annotations

import os
import warnings

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    warnings.simplefilter("error")


class Queue:
    def collect(self):
        yield GaugeMetricFamily("shop_queue", "Jobs that wait.", value=7)


REGISTRY.register(Queue())
Info("shop_release", "What runs.").info({"version": "1.2.3"})
Enum("shop_mode", "Mode.", states=["open", "closed"]).state("closed")
Gauge("shop_users", "Users.").set_function(lambda: 3)
imports = Counter("shop_imports", "Imports.")
imports.inc()
orders = Counter("shop_orders", "Orders.", ["kind"])
seconds = Histogram("shop_seconds", "Seconds.")


def app(environ, start_response):
    path = environ["PATH_INFO"]
    body = b"ok"
    if path == "/order":
        orders.labels("plain").inc(exemplar={"trace": "1"})
        orders.labels("odd").inc()
        orders.remove("odd")
        seconds.observe(1)
    if path == "/fork":
        pid = os.fork()
        if not pid:
            try:
                orders.labels("forked").inc()
                seconds.observe(1)
            finally:
                os._exit(0)
        body = str(os.waitpid(pid, 0)[1]).encode()
    if path == "/metrics":
        registry = REGISTRY
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # as exporters for frameworks do
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        body = generate_latest(registry)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
