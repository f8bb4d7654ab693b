"""What a scrape takes by workers, endpoints and generations of workers, beside MultiProcessCollector's.

Both pages are served from the master of a gunicorn: these hooks' as always, the recipe's by start_http_server. The
workers of both have counted the same requests, and the pages are compared.
"""

from __future__ import annotations

import gzip
import http.client
import statistics
import subprocess
import time
from dataclasses import dataclass, replace

import psutil
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.counting import STATUSES, Counted, counted, server
from benchmarks.counts import WrongCountError
from benchmarks.load import CONNECTIONS, PATH
from benchmarks.machine import cpu_seconds, pss
from benchmarks.options import Options
from benchmarks.spread import Spread, ratios, spread
from benchmarks.variants import BY_HAND, OURS
from benchmarks.waiting import DEADLINE_SECONDS, until

GOAL = (64, 100)
"""Workers and endpoints at which the ratio has a bound."""
WORKERS = (1, 4, 16, 64, 256)
ENDPOINTS = (1, 10, 50, 100, 200)
GENERATIONS = (0, 500, 1000, 2500, 5000)
ROUNDS = 3
PAUSE_SECONDS = 0.3
"""Between two scrapes. The exporter of these hooks makes a pause of up to a quarter of a second after each page."""
MAX_REQUESTS, GENERATION_WORKERS = 3, 8
HOOKS_200 = replace(OURS, config=OURS.config.replace("port=", "max_endpoints=200, port="))
SAME = {
    "gunicorn_requests": "recipe_requests",
    "gunicorn_request_duration_seconds": "recipe_duration_seconds",
    "gunicorn_request_size_bytes": "recipe_request_bytes",
    "gunicorn_response_size_bytes": "recipe_response_bytes",
}
"""Families that have the same series."""
GENERATION_CONFIG = f"""
workers = {GENERATION_WORKERS}
max_requests = {MAX_REQUESTS}
graceful_timeout = 5

"""
HOOKS_EXITS = """
def child_exit(server, worker):
    with open("exits", "a") as file:
        file.write("x")

"""
RECIPE_EXITS = """
def child_exit(server, worker):
    from benchmarks import recipe
    recipe.child_exit(server, worker)
    with open("exits", "a") as file:
        file.write("x")

"""


@dataclass(frozen=True)
class Scrape:
    """What scrapes of one server take.

    Attributes:
        milliseconds: until the last byte, compressed, over HTTP.
        cpu: milliseconds of CPU of the master.
        samples: on the page.
        master_memory: MB of the master (PSS).
        files: of metrics.
        descriptors: that the master has open.
    """

    milliseconds: Spread
    cpu: Spread
    samples: int
    master_memory: float
    files: int
    descriptors: int


@dataclass(frozen=True)
class Point:
    """Scrapes of both servers, in turn. ``ratio`` is of their times, hooks to recipe, in the same round."""

    workers: int
    endpoints: int
    generations: int
    hooks: Scrape
    recipe: Scrape
    ratio: Spread
    cpu_ratio: Spread


@dataclass(frozen=True)
class Scrapes:
    """Scrapes by workers, by endpoints, and by generations."""

    statuses: int
    by_workers: list[Point]
    by_endpoints: list[Point]
    by_generations: list[Point]

    def at(self, workers: int, endpoints: int) -> Point:
        """Return the point with this many workers and endpoints, or the largest one if there is none."""
        points = [*self.by_workers, *self.by_endpoints]
        exact = [point for point in points if (point.workers, point.endpoints) == (workers, endpoints)]
        return exact[0] if exact else max(points, key=lambda point: point.workers * point.endpoints)


def fetch(port: int) -> bytes:
    """Return the page, compressed as Prometheus wants it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
    response = connection.getresponse()
    body = response.read()
    if response.status != 200 or response.getheader("Content-Encoding") != "gzip":
        raise WrongCountError(f"the page has status {response.status}")
    connection.close()
    return body


def timed(running: Counted) -> tuple[float, float]:
    """Return the milliseconds that a scrape takes, and those of CPU in the master."""
    time.sleep(PAUSE_SECONDS)
    cpu, start = cpu_seconds(running.master), time.perf_counter()
    fetch(running.metrics_port)
    took = time.perf_counter() - start
    return took * 1e3, (cpu_seconds(running.master) - cpu) * 1e3


def families(running: Counted) -> list[Metric]:
    """Return the families on the page."""
    return list(text_string_to_metric_families(gzip.decompress(fetch(running.metrics_port)).decode()))


def series(found: list[Metric], name: str) -> dict[tuple[str, ...], float]:
    """Return values by labels of a family's samples. Of buckets and sums of seconds, which differ, only the labels."""
    values = {}
    for family in found:
        if family.name != name:
            continue
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.values()))
            if "<other>" in labels or "/" in labels or sample.name.endswith("_created"):
                continue  # "/" is what waits for the start
            differs = name.endswith("seconds") and not sample.name.endswith("_count")
            values[(sample.name.removeprefix(name), *labels)] = 0.0 if differs else sample.value
    return values


def compare(hooks: Counted, recipe: Counted, expected: int) -> tuple[int, int]:
    """Raise unless both pages have the same series, each request counted. Return the numbers of samples."""
    ours, theirs = families(hooks), families(recipe)
    for name, other in SAME.items():
        if series(ours, name) != series(theirs, other):
            raise WrongCountError(f"{name} is not {other}")
    counts = series(ours, "gunicorn_requests").items()
    requests = sum(value for labels, value in counts if any(label.startswith("/resource/") for label in labels))
    if requests != expected:
        raise WrongCountError(f"{requests:.0f} requests on the page, {expected} counted")
    return sum(len(family.samples) for family in ours), sum(len(family.samples) for family in theirs)


def scrape(running: Counted, figures: list[tuple[float, float]], samples: int) -> Scrape:
    """Return the figures of a server."""
    took, cpu = zip(*figures, strict=True)
    files = sum(1 for _ in (running.folder / "metrics").iterdir())
    descriptors = psutil.Process(running.master).num_fds()
    return Scrape(spread(took), spread(cpu), samples, pss(running.master), files, descriptors)


def both(hooks: Counted, recipe: Counted, rounds: int, samples: tuple[int, int], size: tuple[int, int, int]) -> Point:
    """Scrape both servers in turn."""
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    for _ in range(rounds):
        ours.append(timed(hooks))
        theirs.append(timed(recipe))
    took, cpu = ([figures[at] for figures in ours] for at in (0, 1))
    their_time, their_cpu = ([figures[at] for figures in theirs] for at in (0, 1))
    found = Point(
        *size,
        scrape(hooks, ours, samples[0]),
        scrape(recipe, theirs, samples[1]),
        ratios(took, their_time),
        ratios(cpu, their_cpu),
    )
    print(
        f"  {size[0]:4} workers {size[1]:4} endpoints {size[2]:5} generations: "
        f"hooks {statistics.median(took):8.1f} ms, recipe {statistics.median(their_time):8.1f} ms: "
        f"{found.ratio.median:.3f}",
        flush=True,
    )
    return found


def point(workers: int, endpoints: int, rounds: int) -> Point:
    """Scrape servers with so many workers and endpoints."""
    with counted(HOOKS_200, workers, endpoints) as hooks, counted(BY_HAND, workers, endpoints) as recipe:
        samples = compare(hooks, recipe, workers * endpoints * len(STATUSES))
        return both(hooks, recipe, rounds, samples, (workers, endpoints, 0))


def exits(running: Counted) -> int:
    """Return how many workers have ended."""
    file = running.folder / "exits"
    return file.stat().st_size if file.exists() else 0


def go_on_to(generations: int, running: Counted) -> None:
    """Send requests until so many workers have ended."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d600s", f"http://127.0.0.1:{running.port}{PATH}"]
    if exits(running) >= generations:
        return
    load = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: exits(running) >= generations, f"{generations} generations")
    finally:
        load.terminate()
        load.wait()


def by_generations(goals: tuple[int, ...], rounds: int) -> list[Point]:
    """Scrape two servers after so many generations of workers."""
    found = []
    recipe_hooks = replace(BY_HAND, config=BY_HAND.config.replace("child_exit, ", ""))
    with (
        server(HOOKS_200, GENERATION_CONFIG + HOOKS_EXITS) as hooks,
        server(recipe_hooks, GENERATION_CONFIG + RECIPE_EXITS) as recipe,
    ):
        for goal in goals:
            for running in (hooks, recipe):
                go_on_to(goal, running)
            pages = families(hooks), families(recipe)
            samples = tuple(sum(len(family.samples) for family in page) for page in pages)
            found.append(both(hooks, recipe, rounds, (samples[0], samples[1]), (GENERATION_WORKERS, 1, goal)))
    return found


def measure(options: Options) -> Scrapes:
    """Measure by workers, by endpoints and by generations."""
    rounds = options.number_of_rounds(ROUNDS)
    at_workers, at_endpoints = options.pick(GOAL, (2, 5))
    workers, endpoints = options.pick(WORKERS, (1, 4)), options.pick(ENDPOINTS, (1, 10))
    first = [point(number, at_endpoints, rounds) for number in workers]
    second = [point(at_workers, number, rounds) for number in endpoints]
    return Scrapes(len(STATUSES), first, second, by_generations(options.pick(GENERATIONS, (0, 20)), rounds))
