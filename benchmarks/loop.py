"""pre_request and post_request in a tight loop, beside the recipe with prometheus_client's multiprocess files.

Run alone: ``python -m benchmarks.loop``
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import create

from benchmarks.counts import WrongCountError, files_of, total
from benchmarks.options import Options

REPEATS = 300
REQUESTS = 2000
QUICK_REPEATS = 20
Hooks = tuple[Callable[..., Any], Callable[..., Any], Callable[[], float]]
"""Both hooks, and a function that returns how many requests they have counted."""


@dataclass(frozen=True)
class Loop:
    """Nanoseconds of a pair of calls: the least of many repeats, since whatever else runs can only add."""

    empty: float
    sync: float
    gthread: float
    gevent: float
    recipe: float


class Sink:
    """A socket that takes everything."""

    def send(self, data: bytes) -> int:
        return len(data)

    def sendall(self, data: bytes, flags: int = 0) -> None:
        pass


def a_request() -> tuple[Any, Any, Any]:
    """gunicorn's own request, environ and response, of a browser's GET answered with 200 and two bytes."""
    head = (
        b"GET /items/7 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\n"
        b"Accept-Encoding: gzip\r\nCookie: session=1\r\nConnection: close\r\n\r\n"
    )
    cfg = Config()
    request = next(RequestParser(cfg, iter([head]), ("127.0.0.1", 1)))
    response, environ = create(request, cast("socket.socket", Sink()), ("127.0.0.1", 1), ("127.0.0.1", 80), cfg)
    response.start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    response.write(b"ok")
    response.close()
    return request, environ, response


def nothing() -> float:
    """Return that nothing is counted."""
    return 0.0


def ours(kind: str) -> Hooks:
    """The hooks as a worker gets them: ``sync``, ``gthread`` or ``gevent``."""
    from gunicorn_prom_hooks.errors import ErrorReporter
    from gunicorn_prom_hooks.shm.slot import Slot
    from gunicorn_prom_hooks.worker.recording.event_loop_hooks import many_at_a_time
    from gunicorn_prom_hooks.worker.recording.sync_hooks import one_at_a_time
    from gunicorn_prom_hooks.worker.recording.threaded_hooks import one_per_thread
    from tests.helpers.recording import Recorded

    recorded = Recorded(200, Slot(300_000, 900_000))
    make = {"sync": one_at_a_time, "gthread": one_per_thread, "gevent": many_at_a_time}[kind]
    hooks = make(recorded.recorder, None, ErrorReporter(), "HTTP_X_REQUEST_START")
    return (*hooks, lambda: sum(recorded.requests().values()))


def recipe() -> Hooks:
    """The same families, written by hand as prometheus_client's documentation has it."""
    from benchmarks import recipe as by_hand

    folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    return by_hand.pre_request, by_hand.post_request, lambda: total(files_of(folder), "recipe_requests_total")


def empty() -> Hooks:
    """Nothing at all."""
    return (lambda worker, req: None), (lambda worker, req, environ, resp: None), nothing


class Worker:
    """What the recipe reads of a worker."""

    pid = os.getpid()


def nanoseconds(hooks: Hooks, repeats: int) -> float:
    """Nanoseconds per pair of calls. Raise unless each pair was counted, if anything was."""
    pre_request, post_request, counted = hooks
    request, environ, response = a_request()
    worker = Worker()

    def loop() -> None:
        for _ in range(REQUESTS):
            pre_request(worker, request)
            post_request(worker, request, environ, response)

    least = min(timeit.repeat(loop, number=1, repeat=repeats)) / REQUESTS * 1e9
    if counted is not nothing and counted() != REQUESTS * repeats:
        raise WrongCountError(f"{counted():.0f} counted of {REQUESTS * repeats}")
    return least


VARIANTS: dict[str, Callable[[], Hooks]] = {
    "empty": empty,
    "sync": lambda: ours("sync"),
    "gthread": lambda: ours("gthread"),
    "gevent": lambda: ours("gevent"),
    "recipe": recipe,
}


def in_own_process(variant: str, repeats: int) -> float:
    """Measure one variant in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": folder}
        command = [sys.executable, "-m", "benchmarks.loop", variant, str(repeats)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environ)
    return float(json.loads(done.stdout))


def measure(options: Options) -> Loop:
    """Measure all variants."""
    repeats = options.pick(REPEATS, QUICK_REPEATS)
    figures = {variant: in_own_process(variant, repeats) for variant in VARIANTS}
    for variant, figure in figures.items():
        print(f"  {variant:8} {figure / 1000:6.2f} µs")
    return Loop(**figures)


def main() -> None:
    """Measure and print, or measure the variant that the arguments give."""
    if len(sys.argv) > 2:
        print(nanoseconds(VARIANTS[sys.argv[1]](), int(sys.argv[2])))
        return
    print("pre_request and post_request in a tight loop, least of many repeats")
    found = measure(Options())
    print(f"  sync : recipe = {found.sync / found.recipe:.3f}")


if __name__ == "__main__":
    main()
