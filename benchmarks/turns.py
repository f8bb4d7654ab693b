"""What recording a request costs inside one real worker that serves in turn as bare gunicorn would and with hooks.

The same process, the same memory, the same minute: two processes of the same program differ by more than there is to
measure. What the garbage collector has to do for the modules of the hooks is in both, and not seen here; ``peers`` sees
it. In other workers the hand-written recipe has its turn beside these hooks, with all families and with three.

Run alone: ``python -m benchmarks.turns [--rounds N] [--quick] [--no-recipe] [WORKER ...]``
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.counts import WrongCountError, files_of, page_of, total
from benchmarks.load import load
from benchmarks.machine import Cores, cores
from benchmarks.options import Options
from benchmarks.server import free_port, gunicorn
from benchmarks.spread import Spread, differences, ratios, spread
from benchmarks.waiting import until

SECONDS = 5
STARTS = 2
REQUESTS, QUICK_REQUESTS = 100, 20
"""In a block. Short ones: the machine drifts."""
ROUNDS, LOADS = 4, 10
"""Rounds of blocks that there are to be in any case, and loads for that."""
WARM = 10
"""Rounds at the beginning of each start that are left out."""
BARE, HOOKS, RECIPE, THREE = "bare", "hooks", "recipe", "recipe of three"
COUNTERS = {RECIPE: "recipe_requests_total", THREE: "three_requests_total"}
TOLERANCE = 0.05
"""The share of requests that may begin in one's turn and end in another's: with several requests at a time."""

TURNS = """
from time import process_time

class Turns:
    served, at, since = 0, 0, process_time()
    blocks = open("blocks", "w", buffering=1)

    def are_over(self):
        self.served += 1
        if self.served < REQUESTS:
            return False
        self.blocks.write(f"{process_time() - self.since}\\n")  # at once: uvicorn's worker calls no worker_exit
        self.served, self.at = 0, (self.at + 1) % PARTIES
        return True

    def go_on(self):
        self.since = process_time()

turns = Turns()
workers = 1

from gunicorn_prom_hooks import install
install(globals(), port=METRICS_PORT, app_metrics=False)
"""
"""Without app_metrics: the recipe's values are prometheus_client's own."""
WSGI_TURNS = """
def post_worker_init(worker):
    cfg, app = worker.cfg, worker.wsgi
    all_hooks = []

    def begin():
        # At the first request: the hooks that record are set after this hook.
        recording = [cfg.pre_request, cfg.post_request]
        assert "gunicorn_prom_hooks" in recording[0].__module__
        all_hooks.append([cfg.settings[name].default for name in ("pre_request", "post_request")])
        all_hooks.append(recording)
        if PARTIES > 2:
            from benchmarks import recipe, recipe_of_three
            all_hooks.append([recipe.pre_request, recipe.post_request])
            all_hooks.append([recipe_of_three.pre_request, recipe_of_three.post_request])

    def choose():
        cfg.set("pre_request", all_hooks[turns.at][0])
        cfg.set("post_request", all_hooks[turns.at][1])
        turns.go_on()

    def in_turn(environ, start_response):
        if not all_hooks:
            begin()
            choose()
        before = turns.at
        if turns.are_over():  # the request goes on to the end that it began for
            ends = all_hooks[before][1]

            def last(worker, req, environ, resp):
                ends(worker, req, environ, resp)
                choose()

            cfg.set("post_request", last)
        return app(environ, start_response)

    worker.wsgi = in_turn
"""
ASGI_TURNS = """
def post_worker_init(worker):
    import app

    def taking_turns(recorded):
        assert recorded.__module__ == "gunicorn_prom_hooks.worker.asgi.middleware"
        applications = [app.app, recorded]
        if PARTIES > 2:
            from benchmarks import recipe_asgi
            applications += [recipe_asgi.middleware(app.app), recipe_asgi.middleware_of_three(app.app)]

        def in_turn(scope, receive, send):
            if scope["type"] == "http" and turns.are_over():
                turns.go_on()
            return applications[turns.at](scope, receive, send)

        return in_turn

    if hasattr(worker, "asgi"):  # the recorded application is put into each protocol when it is made
        create_server = worker.loop.create_server

        def create(factory, *args, **kwargs):
            def connected():
                protocol = factory()
                protocol.app = taking_turns(protocol.app)
                return protocol

            return create_server(connected, *args, **kwargs)

        worker.loop.create_server = create
    else:  # uvicorn's: the configuration is given the recorded application once it is loaded
        class Config(type(worker.config)):
            def __setattr__(self, name, value):
                recorded = getattr(value, "__module__", "") == "gunicorn_prom_hooks.worker.asgi.middleware"
                super().__setattr__(name, taking_turns(value) if name == "loaded_app" and recorded else value)

        worker.config.__class__ = Config
"""
UVICORN = "worker_class = 'uvicorn_worker.UvicornWorker'\n"
GEVENT = "worker_class = 'gevent'\n"
NATIVE = "worker_class = 'asgi'\n"
SLOW = "asgi_loop = 'asyncio'\nhttp_parser = 'python'\n"
WORKERS = {
    "sync": ("", "plain_wsgi"),
    "sync, Flask": ("", "flask_plain"),
    "gthread": ("threads = 4\n", "plain_wsgi"),
    "gthread, Flask": ("threads = 4\n", "flask_plain"),
    "gevent": (GEVENT, "plain_wsgi"),
    "gevent, Flask": (GEVENT, "flask_plain"),
    "asgi": (NATIVE, "plain_asgi"),
    "asgi, Python's own loop and parser": (NATIVE + SLOW, "plain_asgi"),
    "asgi, Starlette": (NATIVE, "starlette_plain"),
    "asgi, FastAPI": (NATIVE, "fastapi_plain"),
    "uvicorn": (UVICORN, "plain_asgi"),
    "uvicorn, FastAPI": (UVICORN, "fastapi_plain"),
}
BESIDE_RECIPE = ("sync", "gthread", "gevent", "asgi", "uvicorn")
"""Where the recipe has its turn, too."""
CLIENTS = {"kept": (), "new": ("Connection: close",)}
"""Whether a connection is kept for the next request, or closed as nginx does unless told otherwise."""


@dataclass(frozen=True)
class Cost:
    """What something costs in one worker.

    Attributes:
        name: of what is called.
        more: microseconds of CPU per request more than bare.
        error: the standard error of the median of these.
        ratio: to bare.
    """

    name: str
    more: Spread
    error: float
    ratio: Spread


@dataclass(frozen=True)
class Case:
    """One worker with one kind of client.

    Attributes:
        worker: kind of worker, and the framework.
        client: "kept" or "new" connections.
        bare: microseconds of CPU per request.
        costs: of the hooks, and of the recipe where it was measured.
        requests: that were answered.
    """

    worker: str
    client: str
    bare: Spread
    costs: list[Cost]
    requests: int

    def cost(self, name: str) -> Cost:
        """Return the cost of that name."""
        return next(cost for cost in self.costs if cost.name == name)


@dataclass(frozen=True)
class Turns:
    """All workers with all clients.

    Attributes:
        starts: of each worker.
        seconds: of a load.
        block: requests in a turn.
        cases: of the hooks alone: with each further party in turn, every block begins with colder caches.
        beside_recipe: of the hooks and the recipe.
    """

    starts: int
    seconds: int
    block: int
    cases: list[Case]
    beside_recipe: list[Case]


def blocks(
    config: str, app: str, headers: Sequence[str], parties: Sequence[str], seconds: int, block: int, where: Cores
) -> tuple[list[tuple[float, ...]], int]:
    """Serve in turn once. Return microseconds of CPU per request, of each round one of each party, and all requests."""
    metrics_port = free_port()
    turns = (WSGI_TURNS if "wsgi" in app or "flask" in app else ASGI_TURNS) + TURNS
    for name, value in (("REQUESTS", block), ("PARTIES", len(parties)), ("METRICS_PORT", metrics_port)):
        turns = turns.replace(name, str(value))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = folder / "metrics"
        files.mkdir()
        environ = {"PROMETHEUS_MULTIPROC_DIR": str(files)}
        with gunicorn(folder, turns + config, app=app, environ=environ, cores=[where.server]) as (_, port):
            sent = 0
            for _ in range(LOADS):  # one, unless the machine is busy with other things
                sent += load(port, seconds, headers=headers, cores=[where.load]).requests
                if sent >= ROUNDS * len(parties) * block:
                    break
            counts = {}
            share = sent / len(parties)

            def counted() -> bool:
                counts[HOOKS] = total(page_of(metrics_port), "gunicorn_requests_total")
                for party in parties[2:]:
                    counts[party] = total(files_of(files), COUNTERS[party])
                return all(count > share * (1 - TOLERANCE) - block for count in counts.values())

            try:
                until(counted, "the requests are counted", 3)
            except TimeoutError:
                raise WrongCountError(f"{sent} requests to {parties}, counted: {counts}") from None
        written = [float(line) for line in (folder / "blocks").read_text().splitlines()]
    for party, count in counts.items():
        if abs(count - share) > share * TOLERANCE + 2 * block:
            raise WrongCountError(f"{party}: {count:.0f} counted of {sent} requests in {len(parties)} turns")
    each = [1e6 * spent / block for spent in written]
    number = len(parties)
    in_rounds = [tuple(each[at : at + number]) for at in range(0, len(each) - number + 1, number)]
    return in_rounds[min(WARM, len(in_rounds) // 2) :], sent


def case(name: str, client: str, parties: Sequence[str], starts: int, seconds: int, block: int, where: Cores) -> Case:
    """Measure one worker with one kind of client."""
    config, app = WORKERS[name]
    found: list[tuple[float, ...]] = []
    requests = 0
    for _ in range(starts):
        in_rounds, sent = blocks(config, app, CLIENTS[client], parties, seconds, block, where)
        found += in_rounds
        requests += sent
    if len(found) < 2:
        raise RuntimeError(f"{name}: too few requests for two rounds of blocks: {requests}")
    bare, *others = zip(*found, strict=True)
    costs = []
    for party, spent in zip(parties[1:], others, strict=True):
        error = 1.25 * statistics.stdev(a - b for a, b in zip(spent, bare, strict=True)) / len(bare) ** 0.5
        costs.append(Cost(party, differences(spent, bare), error, ratios(spent, bare)))
    return Case(name, client, spread(bare), costs, requests)


def measure(options: Options, *, names: Sequence[str] = (), with_recipe: bool = True) -> Turns:
    """Measure all workers, or those with these names."""
    starts, seconds, where = options.number_of_rounds(STARTS), options.pick(SECONDS, 2), cores()
    block = options.pick(REQUESTS, QUICK_REQUESTS)
    cases: list[Case] = []
    beside_recipe: list[Case] = []
    for name in WORKERS:
        if name not in names if names else not options.includes(name):
            continue
        for client in CLIENTS:
            if client == "kept" and name.startswith("sync"):  # it keeps none
                continue
            for parties, into in (((BARE, HOOKS), cases), ((BARE, HOOKS, RECIPE, THREE), beside_recipe)):
                if into is beside_recipe and not (with_recipe and name in BESIDE_RECIPE):
                    continue
                found = case(name, client, parties, starts, seconds, block, where)
                into.append(found)
                print(f"  {name:16} {client:4}  bare {found.bare.median:6.1f} µs", end="")
                for cost in found.costs:
                    print(f"   {cost.name} +{cost.more.median:5.2f} µs ± {cost.error:.2f}", end="")
                print(flush=True)
    return Turns(starts, seconds, block, cases, beside_recipe)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Extra CPU per request, in turn inside one worker.")
    parser.add_argument("workers", nargs="*", help=f"of: {'; '.join(WORKERS)}")
    parser.add_argument("--rounds", type=int, help="starts of each worker")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--no-recipe", action="store_true", help="bare and hooks only: more blocks of both")
    given = parser.parse_args()
    measure(Options(given.quick, given.rounds), names=given.workers, with_recipe=not given.no_recipe)


if __name__ == "__main__":
    main()
