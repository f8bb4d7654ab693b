"""What our calls around an ASGI application cost, over real requests inside one real worker.

In turn, 400 requests each are served by the bare application and by the recorded one: the same process, the same
memory, the same minute. Two processes of the same program differ by more than there is to measure. What the garbage
collector has to do for our modules is in both, and not seen here; ``benchmarks.cpu`` sees it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.cpu import ASGI, STARLETTE
from benchmarks.server import gunicorn

SECONDS = 15
STARTS = 3
REQUESTS = 400
CONFIG = """
workers = 1
from time import process_time
from gunicorn_prom_hooks import install

def post_worker_init(worker):
    import app
    served, at, last, blocks = 0, 0, process_time(), []
    apps = [app.app, worker.asgi]

    def in_turn(scope, receive, send):
        nonlocal served, at, last
        served += 1
        if served > REQUESTS:
            now = process_time()
            blocks.append(now - last)
            served, at, last = 1, 1 - at, process_time()
        return apps[at](scope, receive, send)

    worker.asgi = in_turn
    app.blocks = blocks

def worker_exit(server, worker):
    import app, json
    with open("blocks", "w") as file:
        json.dump(app.blocks, file)

install(globals(), port=0)
worker_class = "asgi"
""".replace("REQUESTS", str(REQUESTS))
WORKERS = {
    "asyncio": ("asgi_loop = 'asyncio'\nhttp_parser = 'python'\n", ASGI),
    "uvloop, fast parser": ("asgi_loop = 'uvloop'\nhttp_parser = 'fast'\n", ASGI),
    "asyncio, Starlette": ("asgi_loop = 'asyncio'\nhttp_parser = 'python'\n", STARLETTE),
}


def pairs(config: str, app: str) -> list[tuple[float, float]]:
    """Microseconds per request, bare and recorded, of each two blocks that followed each other."""
    found: list[tuple[float, float]] = []
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as folder:
            with gunicorn(Path(folder), CONFIG + config, app=app) as (_, port):
                url = f"http://127.0.0.1:{port}/items/7"
                subprocess.run(["wrk", "-t1", "-c4", f"-d{SECONDS}s", url], check=True, capture_output=True)
            blocks = [1e6 * seconds / REQUESTS for seconds in json.loads((Path(folder) / "blocks").read_text())]
        found += list(zip(blocks[::2], blocks[1::2], strict=False))[5:]
    return found


def main() -> None:
    print(f"An ASGI request recorded, in a real worker, to the bare one: median of blocks of {REQUESTS} in turn")
    for name, (config, app) in WORKERS.items():
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        blocks = pairs(config, app)
        cost = [ours - bare for bare, ours in blocks]
        error = 1.25 * statistics.stdev(cost) / len(cost) ** 0.5
        ratio = statistics.median(ours / bare for bare, ours in blocks)
        bare = statistics.median(bare for bare, _ in blocks)
        print(f"  {name:20} +{statistics.median(cost):.2f} µs ± {error:.2f}   of {bare:.1f} µs: {ratio:.3f}")


if __name__ == "__main__":
    main()
