"""CPU time per request against bare gunicorn, in interleaved pairs: many short ones, since the machine drifts."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from benchmarks.server import APP, free_port, gunicorn

STARTS = 8
"""Of both servers: two processes of the same program differ by a percent or two for as long as they live."""
PAIRS = 3
SECONDS = 2
BARE = "workers = 2\n"
OURS = "from gunicorn_prom_hooks import install\ninstall(globals(), port={port})\n"
ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})
"""
STARLETTE = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def item(request):
    return PlainTextResponse("ok")

app = Starlette(routes=[Route("/", item), Route("/items/{number:int}", item)])
"""
WORKERS = {
    "sync": (1.02, "", APP),
    "gthread": (1.03, "threads = 4\n", APP),
    "gevent": (1.03, "worker_class = 'gevent'\n", APP),
    "asgi": (1.03, "worker_class = 'asgi'\n", ASGI),
    "uvicorn": (1.03, "worker_class = 'uvicorn_worker.UvicornWorker'\n", ASGI),
    "asgi-starlette": (1.03, "worker_class = 'asgi'\n", STARLETTE),
    "uvicorn-starlette": (1.03, "worker_class = 'uvicorn_worker.UvicornWorker'\n", STARLETTE),
}
"""By worker class: the bound, what makes it that, and a trivial application."""


def workers_cpu(master: int) -> float:
    """Seconds of CPU that the workers have used, from the scheduler's own clock."""
    spent = 0.0
    for child in psutil.Process(master).children():
        for task in Path(f"/proc/{child.pid}/task").iterdir():
            spent += int((task / "schedstat").read_text().split()[0]) / 1e9
    return spent


def per_request(master: int, port: int) -> float:
    """Microseconds of CPU in the workers per request, over one load of wrk."""
    before = workers_cpu(master)
    out = subprocess.run(
        ["wrk", "-t1", "-c4", f"-d{SECONDS}s", f"http://127.0.0.1:{port}/items/7"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = re.search(r"(\d+) requests in", out)
    assert found is not None, out
    return (workers_cpu(master) - before) / int(found[1]) * 1e6


def pairs_of_one_start(config: str, app: str) -> list[tuple[float, float]]:
    """Measure a bare server and one with the hooks in turn; the first pair, which warms them up, is left out."""
    with tempfile.TemporaryDirectory() as folder:
        bare, ours = BARE + config, BARE + config + OURS.format(port=free_port())
        with (
            gunicorn(Path(folder) / "bare", bare, app=app) as (bare_process, bare_port),
            gunicorn(Path(folder) / "ours", ours, app=app) as (our_process, our_port),
        ):
            pairs = []
            for number in range(PAIRS + 1):
                runs = [(0, bare_process.pid, bare_port), (1, our_process.pid, our_port)]
                figures = {which: per_request(pid, port) for which, pid, port in (runs if number % 2 else runs[::-1])}
                pairs.append((figures[0], figures[1]))
    return pairs[1:]


def measure(config: str, app: str) -> tuple[float, float, float]:
    """Return the median ratio of hooks to bare over all pairs, and the median microseconds of each."""
    pairs = [pair for _ in range(STARTS) for pair in pairs_of_one_start(config, app)]
    ratio = statistics.median(ours / bare for bare, ours in pairs)
    return ratio, statistics.median(bare for bare, _ in pairs), statistics.median(ours for _, ours in pairs)


def main() -> None:
    print(f"CPU per request in the workers, hooks to bare gunicorn, median of {STARTS} x {PAIRS} interleaved pairs")
    for name, (bound, config, app) in WORKERS.items():
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        ratio, bare, ours = measure(config, app)
        print(f"  {name:18} {ratio:.3f}   ({ours:.1f} µs to {bare:.1f} µs; at most {bound})")


if __name__ == "__main__":
    main()
