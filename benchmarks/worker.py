"""pre_request + post_request over real requests inside a real worker, beside the recipe, empty hooks taken off.

One sync worker, one connection at a time. In turn, 128 requests each have our hooks, those of the recipe, and empty
ones: the same worker, the same cold caches. What is left after taking the empty ones' median off is what hooks cost.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
from pathlib import Path

from benchmarks.server import free_port, gunicorn

SECONDS = 6
WARM = 500

CONFIG = """
from gunicorn_prom_hooks import install

def post_worker_init(worker):
    from time import perf_counter_ns
    from benchmarks import recipe
    app = worker.wsgi
    hooks = [
        None,
        (recipe.pre_request, recipe.post_request),
        ((lambda w, r: None), (lambda w, r, e, s: None)),
    ]
    took, state = ([], [], []), {"n": 0, "pre": 0}

    def timed_pre(worker, req):
        hook = hooks[(state["n"] >> 7) % 3][0]
        start = perf_counter_ns()
        hook(worker, req)
        state["pre"] = perf_counter_ns() - start

    def timed_post(worker, req, environ, resp):
        which = (state["n"] >> 7) % 3
        hook = hooks[which][1]
        start = perf_counter_ns()
        hook(worker, req, environ, resp)
        took[which].append(perf_counter_ns() - start + state["pre"])
        state["n"] += 1

    def first(environ, start_response):
        # Not before the first request: the hooks that record are set after this hook.
        hooks[0] = worker.cfg.pre_request, worker.cfg.post_request
        assert "gunicorn_prom_hooks" in hooks[0][0].__module__
        worker.cfg.set("pre_request", timed_pre)
        worker.cfg.set("post_request", timed_post)
        worker.wsgi = app
        return app(environ, start_response)

    worker.wsgi = first
    worker.took = took

def worker_exit(server, worker):
    import json
    with open("took.json", "w") as out:
        json.dump(worker.took, out)

install(globals(), port={port})
"""


def measure() -> tuple[float, float, float]:
    """Return median nanoseconds of a pair of calls: hooks and recipe minus empty hooks, and empty hooks."""
    with tempfile.TemporaryDirectory() as folder:
        config = CONFIG.replace("{port}", str(free_port()))
        environ = {"PROMETHEUS_MULTIPROC_DIR": folder, "PYTHONPATH": str(Path(__file__).parent.parent)}
        with gunicorn(Path(folder), config, environ=environ) as (_, port):
            subprocess.run(
                ["wrk", "-t1", "-c1", f"-d{SECONDS}s", f"http://127.0.0.1:{port}/items/7"],
                check=True,
                capture_output=True,
            )
        took = json.loads((Path(folder) / "took.json").read_text())
    ours, recipe, empty = (statistics.median(figures[WARM:]) for figures in took)
    return ours - empty, recipe - empty, empty


def main() -> None:
    ours, recipe, empty = measure()
    print("pre_request + post_request inside a real sync worker, median over real requests")
    print(f"  sync   {ours / 1000:6.2f} µs   (at most 3.50; empty ones, {empty / 1000:.2f} µs, taken off)")
    print(f"  recipe {recipe / 1000:6.2f} µs   (sync : recipe = {ours / recipe:.3f}, at most 0.3)")


if __name__ == "__main__":
    main()
