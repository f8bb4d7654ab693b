"""The hand-written recipe: prometheus_client in multiprocess mode, with the same families and labels."""

from __future__ import annotations

import os
import time
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

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
WORKER_ID = f"worker_1_{os.getpid()}"


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
    WORKER_REQUESTS.labels(WORKER_ID).inc()
    WORKER_DURATION.labels(WORKER_ID).observe(took)
