"""A status.json as a server sends it, for the tests of ``top``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def status(parts: Mapping[str, object] | None = None, *, endpoints: int = 2, workers: int = 2) -> dict[str, Any]:
    """Return the data of a server with this number of endpoints and workers; parts replace those of the server."""
    request = {"method": "GET", "path": "/slow/7", "seconds": 12.0, "hangs": True}
    requests = {"rows": [request], "more": 3}
    data: dict[str, Any] = {
        "time": 1_800_000_000.0,
        "rates": {"seconds": 55.0, "since_start": False},
        "server": {
            "app": "shop.wsgi:application",
            "gunicorn": "27.0.1",
            "worker_class": "gthread",
            "uptime_seconds": 305.0,
            "timeout_seconds": 30.0,
            "reloads": 1,
            "workers_target": workers,
            "workers_booting": 0,
            "workers_running": workers,
            "workers_stopping": 0,
        },
        "listeners": [{"name": "http://127.0.0.1:8000", "queue": 0, "queue_limit": 2048, "unread": 1}],
        "load": {"in_progress": 4, "capacity": 8, "hanging": 1},
        "traffic": {"requests": 1234, "failed": 5, "per_second": 12.34, "failed_per_second": 0.0},
        "workers": {"rows": [worker(number, requests if number == 1 else {}) for number in range(1, workers + 1)]},
        "endpoints": {
            "rows": [endpoint(number) for number in range(1, endpoints + 1)],
            "more": 7,
            "lowest_bucket_seconds": 0.001,
            "highest_bucket_seconds": 60.0,
        },
        "exits": [
            {
                "time": 1_799_999_940.0,
                "worker_id": "worker_1_1799999000",
                "pid": 90,
                "reason": "timeout",
                "detail": "SIGABRT",
                "requests_in_progress": requests,
            }
        ],
    }
    return data | dict(parts or {})


def worker(number: int, requests: Mapping[str, object]) -> dict[str, Any]:
    """Return a row of the workers."""
    return {
        "worker_id": f"worker_{number}_1799999700",
        "pid": 100 + number,
        "state": "running",
        "uptime_seconds": 300.0,
        "heartbeat_age_seconds": 0.3,
        "memory_bytes": 30 << 20,
        "cpu_percent": 12.5,
        "requests": 617,
        "failed": 2,
        "capacity": 4,
        "loop_blocked_seconds": None,
        "in_progress": 2,
        "requests_in_progress": requests,
    }


def endpoint(number: int) -> dict[str, Any]:
    """Return a row of the endpoints."""
    return {
        "method": "GET",
        "endpoint": f"/items/{number}",
        "requests": 1000 - number,
        "failed": 0,
        "per_second": 1.5,
        "p50_seconds": 0.0,
        "p90_seconds": 0.025,
        "p99_seconds": 60.0,
    }
