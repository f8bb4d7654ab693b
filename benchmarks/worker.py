"""pre_request and post_request over real requests inside a real worker, beside the recipe, empty hooks taken off.

One sync worker, one connection at a time. In turn, 128 requests each have the hooks, those of the recipe with all
families, those of the recipe with three families, and empty ones: the same worker, the same cold caches. What is left
after taking the empty ones' median off is the time that hooks take. It is less than what they cost: the caches that
they fill are missing for the code that comes next. ``turns`` has that.

Run alone: ``python -m benchmarks.worker``
"""

from __future__ import annotations

import json
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.counts import WrongCountError, files_of, page_of, total
from benchmarks.load import load
from benchmarks.machine import Cores, cores
from benchmarks.options import Options
from benchmarks.server import free_port, gunicorn, wait_for
from benchmarks.spread import Spread, ratios, spread

SECONDS, ROUNDS = 6, 3
WARM, BLOCK, LOADS = 500, 128, 10

CONFIG = """
def post_worker_init(worker):
    from time import perf_counter_ns
    from benchmarks import recipe, recipe_of_three
    from prometheus_client import values
    app = worker.wsgi
    hooks = [
        None,
        (recipe.pre_request, recipe.post_request),
        (recipe_of_three.pre_request, recipe_of_three.post_request),
        ((lambda w, r: None), (lambda w, r, e, s: None)),
    ]
    took, state = ([], [], [], []), {"n": 0, "pre": 0}

    def timed_pre(worker, req):
        hook = hooks[(state["n"] >> 7) % 4][0]
        start = perf_counter_ns()
        hook(worker, req)
        state["pre"] = perf_counter_ns() - start

    def timed_post(worker, req, environ, resp):
        which = (state["n"] >> 7) % 4
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

from gunicorn_prom_hooks import install
install(globals(), port=METRICS_PORT, app_metrics=APP_METRICS)
"""
COUNTERS = ("gunicorn_requests_total", "recipe_requests_total", "three_requests_total")


@dataclass(frozen=True)
class InWorker:
    """Nanoseconds of a pair of calls, minus those of empty ones. One figure a start.

    Attributes:
        hooks: of this package.
        recipe: with the families of the hooks.
        three: the recipe with three families.
        empty: the empty ones, with what measuring takes.
        to_recipe: hooks to recipe.
        to_three: hooks to the recipe with three families.
        to_recipe_in_own_files: hooks to recipe, with the recipe's values in the files of this package. One start.
    """

    hooks: Spread
    recipe: Spread
    three: Spread
    empty: Spread
    to_recipe: Spread
    to_three: Spread
    to_recipe_in_own_files: float


def once(where: Cores, seconds: int, *, app_metrics: bool = False) -> tuple[float, float, float, float]:
    """Return median nanoseconds of a pair of calls: hooks, recipe, and recipe of three minus empty hooks; empty hooks.

    With ``app_metrics`` the recipe's values are in the files of this package and not in prometheus_client's.
    """
    metrics_port = free_port()
    config = CONFIG.replace("METRICS_PORT", str(metrics_port)).replace("APP_METRICS", str(app_metrics))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = folder / "metrics"
        files.mkdir()
        environ = {"PROMETHEUS_MULTIPROC_DIR": str(files)}
        with gunicorn(folder, config, environ=environ, cores=[where.server]) as (_, port):
            sent = 0
            for _ in range(LOADS):  # one, unless the machine is busy with other things
                sent += load(port, seconds, connections=1, cores=[where.load]).requests
                if sent >= 4 * (WARM + BLOCK):
                    break
            pages = page_of(metrics_port) + ([] if app_metrics else files_of(files))
            counts = [total(pages, name) for name in COUNTERS]
        took = json.loads(wait_for(folder / "took.json"))
    for name, counted, figures in zip(COUNTERS, counts, took, strict=False):
        expected = len(figures) + (name == COUNTERS[0])  # the first request is not timed
        if abs(counted - expected) > 2:
            raise WrongCountError(f"{name} is {counted:.0f} after {expected} requests")
    hooks, recipe, three, empty = (statistics.median(figures[min(WARM, len(figures) // 2) :]) for figures in took)
    return hooks - empty, recipe - empty, three - empty, empty


def measure(options: Options) -> InWorker:
    """Measure, with one start a round."""
    where, seconds = cores(), options.pick(SECONDS, 3)
    found = [once(where, seconds) for _ in range(options.number_of_rounds(ROUNDS))]
    hooks, recipe, three, empty = zip(*found, strict=True)
    own = once(where, seconds, app_metrics=True)
    figures = InWorker(
        spread(hooks),
        spread(recipe),
        spread(three),
        spread(empty),
        ratios(hooks, recipe),
        ratios(hooks, three),
        own[0] / own[1],
    )
    for name in ("hooks", "recipe", "three", "empty"):
        print(f"  {name:8} {getattr(figures, name).median / 1000:6.2f} µs")
    print(
        f"  hooks : recipe = {figures.to_recipe.median:.3f}, recipe of three: {figures.to_three.median:.3f}", flush=True
    )
    return figures


def main() -> None:
    """Measure and print."""
    print("pre_request and post_request inside a real sync worker, median over real requests, empty ones taken off")
    measure(Options())


if __name__ == "__main__":
    main()
