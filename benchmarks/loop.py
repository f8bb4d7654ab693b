"""pre_request + post_request in a tight loop, beside the recipe with prometheus_client's multiprocess files."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable
from typing import Any, cast

from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import create

REPEATS = 300
REQUESTS = 2000
Hooks = tuple[Callable[..., Any], Callable[..., Any]]


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


def ours(kind: str) -> Hooks:
    """The hooks as a worker gets them: ``sync``, ``gthread`` or ``gevent``."""
    from gunicorn_prom_hooks.errors import ErrorReporter
    from gunicorn_prom_hooks.shm.slot import Slot
    from gunicorn_prom_hooks.worker.recording.event_loop_hooks import many_at_a_time
    from gunicorn_prom_hooks.worker.recording.recorder import Recorder
    from gunicorn_prom_hooks.worker.recording.sync_hooks import one_at_a_time
    from gunicorn_prom_hooks.worker.recording.threaded_hooks import one_per_thread

    recorder = Recorder(Slot(300_000, 900_000), 200)
    make = {"sync": one_at_a_time, "gthread": one_per_thread, "gevent": many_at_a_time}[kind]
    return make(recorder, None, ErrorReporter(), "HTTP_X_REQUEST_START")


def recipe() -> Hooks:
    """The same families, written by hand as prometheus_client's documentation has it."""
    from benchmarks import recipe as by_hand

    return by_hand.pre_request, by_hand.post_request


def empty() -> Hooks:
    """Nothing at all."""
    return (lambda worker, req: None), (lambda worker, req, environ, resp: None)


def nanoseconds(hooks: Hooks) -> float:
    """Nanoseconds per pair of calls; the least of many repeats, since whatever else runs can only add."""
    pre_request, post_request = hooks
    request, environ, response = a_request()

    def loop() -> None:
        for _ in range(REQUESTS):
            pre_request(None, request)
            post_request(None, request, environ, response)

    return min(timeit.repeat(loop, number=1, repeat=REPEATS)) / REQUESTS * 1e9


VARIANTS: dict[str, Callable[[], Hooks]] = {
    "empty": empty,
    "sync": lambda: ours("sync"),
    "gthread": lambda: ours("gthread"),
    "gevent": lambda: ours("gevent"),
    "recipe": recipe,
}


def measure(variant: str) -> float:
    """One variant in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": folder}
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.loop", variant], check=True, capture_output=True, text=True, env=environ
        )
    return float(done.stdout)


def main() -> None:
    if len(sys.argv) > 1:
        print(nanoseconds(VARIANTS[sys.argv[1]]()))
        return
    print("pre_request + post_request in a tight loop, least of many repeats")
    figures = {variant: measure(variant) for variant in VARIANTS}
    for variant, figure in figures.items():
        print(f"  {variant:8} {figure / 1000:6.2f} µs")
    print(f"  sync : recipe = {figures['sync'] / figures['recipe']:.3f}   (at most 0.3; sync at most 1.50 µs)")


if __name__ == "__main__":
    main()
