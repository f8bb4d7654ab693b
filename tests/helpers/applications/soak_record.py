"""What the applications of the soak record: each request at its start, in a file and in metrics of their own."""

from __future__ import annotations

import os
import time
from urllib.parse import parse_qs

from prometheus_client import Counter, Histogram

started = Counter("soak_started", "Requests that the application has started.", ["kind"])
finished = Histogram("soak_seconds", "Time of requests that the application has finished.", buckets=(0.005, 0.05, 1))
_file = os.open("requests", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def write(*words):
    os.write(_file, (" ".join(map(str, (os.getpid(), time.monotonic(), *words))) + "\n").encode())


write("boot")


def begin(method, path, query):
    """Record the start. Return status, seconds to wait, and body."""
    values = {name: found[0] for name, found in parse_qs(query).items()}
    status = int(values.get("status", 200))
    write("begin", path.partition("?")[0][:80].encode("ascii", "replace").decode().replace(" ", "_"), status)
    started.labels(method if method in ("GET", "POST") else "other").inc()
    return status, float(values.get("seconds", 0)), path.encode() + b" " + b"x" * int(values.get("size", 0))
