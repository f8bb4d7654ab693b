"""Requests sent with wrk, and how long they took."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import on_cores

SCRIPT = Path(__file__).parent / "load.lua"
CONNECTIONS = 4
PATH = "/items/7"


@dataclass(frozen=True)
class Load:
    """What one run of wrk has counted.

    Attributes:
        requests: that were answered with a status below 400.
        seconds: that the run took.
        p50: median of the latency in ms.
        p99: 99th percentile of the latency in ms.
    """

    requests: int
    seconds: float
    p50: float
    p99: float


def load(
    port: int,
    seconds: int,
    *,
    connections: int = CONNECTIONS,
    headers: Collection[str] = (),
    path: str = PATH,
    cores: Collection[int] = (),
) -> Load:
    """Send requests for this long, as many as are answered. Raise if one fails.

    Args:
        port: of the server.
        seconds: that the run takes: whole ones, as wrk wants them.
        connections: that are used at a time.
        headers: of each request.
        path: that is requested.
        cores: on which wrk runs; none: wherever the system puts it.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(SCRIPT)]
    for header in headers:
        command += ["-H", header]
    done = subprocess.run(
        [*on_cores(cores), *command, f"http://127.0.0.1:{port}{path}"],
        check=True,
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )
    found = json.loads(done.stdout.rpartition("RESULT ")[2])
    if found.pop("errors") or not found["requests"]:
        raise RuntimeError(f"requests that failed: {done.stdout}")
    return Load(**found)
