"""The hand-written recipe with three families only: requests, their durations, and requests in progress."""

from __future__ import annotations

import time
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from gunicorn_prom_hooks.settings import DEFAULT_DURATION_BUCKETS as DURATION_BUCKETS

REQUESTS = Counter("three_requests", "Requests.", ["method", "endpoint", "status"])
DURATION = Histogram("three_duration_seconds", "Duration.", ["method", "endpoint"], buckets=DURATION_BUCKETS)
IN_PROGRESS = Gauge("three_in_progress", "In progress.", multiprocess_mode="livesum")


def pre_request(worker: Any, req: Any) -> None:
    IN_PROGRESS.inc()
    req.started = time.perf_counter()


def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
    took = time.perf_counter() - req.started
    IN_PROGRESS.dec()
    endpoint = environ["PATH_INFO"]
    REQUESTS.labels(req.method, endpoint, str(resp.status_code)).inc()
    DURATION.labels(req.method, endpoint).observe(took)
