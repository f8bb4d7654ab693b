"""The hand-written recipe: prometheus_client in multiprocess mode, with the families and labels of these hooks.

The page is served from the master, at the port in ``RECIPE_PORT``, if that is set.
"""

from __future__ import annotations

import os
import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from gunicorn_prom_hooks.settings import DEFAULT_DURATION_BUCKETS as DURATION_BUCKETS
from gunicorn_prom_hooks.shm.schema import SIZE_BUCKETS, WORKER_DURATION_BUCKETS

REQUESTS = Counter("recipe_requests", "Requests.", ["method", "endpoint", "status"])
DURATION = Histogram("recipe_duration_seconds", "Duration.", ["method", "endpoint"], buckets=DURATION_BUCKETS)
REQUEST_SIZE = Histogram("recipe_request_bytes", "Size.", ["method", "endpoint"], buckets=SIZE_BUCKETS)
RESPONSE_SIZE = Histogram("recipe_response_bytes", "Size.", ["method", "endpoint"], buckets=SIZE_BUCKETS)
IN_PROGRESS = Gauge("recipe_in_progress", "In progress.", multiprocess_mode="livesum")
WORKER_REQUESTS = Counter("recipe_worker_requests", "Requests.", ["worker_id"])
WORKER_DURATION = Histogram(
    "recipe_worker_duration_seconds", "Duration.", ["worker_id"], buckets=WORKER_DURATION_BUCKETS
)


def pre_request(worker: Any, req: Any) -> None:
    IN_PROGRESS.inc()
    req.started = time.perf_counter()


def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
    took = time.perf_counter() - req.started
    IN_PROGRESS.dec()
    endpoint = environ["PATH_INFO"]
    REQUESTS.labels(req.method, endpoint, str(resp.status_code)).inc()
    DURATION.labels(req.method, endpoint).observe(took)
    REQUEST_SIZE.labels(req.method, endpoint).observe(float(environ.get("CONTENT_LENGTH") or 0))
    RESPONSE_SIZE.labels(req.method, endpoint).observe(resp.sent)
    WORKER_REQUESTS.labels(worker.pid).inc()
    WORKER_DURATION.labels(worker.pid).observe(took)


def when_ready(server: Any) -> None:
    port = os.environ.get("RECIPE_PORT")
    if port:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        start_http_server(int(port), "127.0.0.1", registry)


def child_exit(server: Any, worker: Any) -> None:
    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
