"""What recording a request costs inside one real worker: served in turn by bare gunicorn's means and with our hooks.

The same process, the same memory, the same minute: two processes of the same program differ by more than there is to
measure. What the garbage collector has to do for our modules is in both, and not seen here; ``benchmarks.cpu`` sees it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.cpu import ASGI, STARLETTE
from benchmarks.server import APP, gunicorn

SECONDS = 10
STARTS = 3
REQUESTS = 100
"""In a block. Short ones: the machine drifts."""
WARM = 10
"""Pairs of blocks at the beginning of each start that are left out."""

TURNS = """
import json
import os
from time import process_time

class Turns:
    served, at, since, blocks = 0, 0, process_time(), []

    def are_over(self):
        self.served += 1
        if self.served < REQUESTS:
            return False
        self.blocks.append(process_time() - self.since)
        self.served, self.at = 0, 1 - self.at
        if len(self.blocks) % 20 == 0:
            with open("blocks.new", "w") as file:
                json.dump(self.blocks, file)
            os.replace("blocks.new", "blocks")
        return True

    def go_on(self):
        self.since = process_time()

turns = Turns()
workers = 1
"""
WSGI_TURNS = """
def post_worker_init(worker):
    cfg, app = worker.cfg, worker.wsgi
    both = []

    def begin():
        # At the first request: the hooks that record are set after this hook.
        recording = [cfg.pre_request, cfg.post_request]
        assert "gunicorn_prom_hooks" in recording[0].__module__
        both.append([cfg.settings[name].default for name in ("pre_request", "post_request")])
        both.append(recording)

    def choose():
        cfg.set("pre_request", both[turns.at][0])
        cfg.set("post_request", both[turns.at][1])
        turns.go_on()

    def in_turn(environ, start_response):
        if not both:
            begin()
        if turns.are_over():  # the request goes on to the end that it began for
            ends = both[1 - turns.at][1]

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
        both = app.app, recorded

        def in_turn(scope, receive, send):
            if turns.are_over():
                turns.go_on()
            return both[turns.at](scope, receive, send)

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
INSTALL = """
from gunicorn_prom_hooks import install
install(globals(), port=0)
"""
FASTAPI = """
from fastapi import FastAPI

app = FastAPI()

@app.get("/")
@app.get("/items/{number}")
async def item(number: int = 0):
    return {"number": number}
"""
FLASK = """
from flask import Flask

app = Flask(__name__)

@app.get("/", defaults={"number": 0})
@app.get("/items/<int:number>")
def item(number):
    return {"number": number}
"""
UVICORN = "worker_class = 'uvicorn_worker.UvicornWorker'\n"
GEVENT = "worker_class = 'gevent'\n"
NATIVE = "worker_class = 'asgi'\n"
SLOW = "asgi_loop = 'asyncio'\nhttp_parser = 'python'\n"
WORKERS = {
    "sync": ("", APP),
    "sync, Flask": ("", FLASK),
    "gthread": ("threads = 4\n", APP),
    "gthread, Flask": ("threads = 4\n", FLASK),
    "gevent": (GEVENT, APP),
    "gevent, Flask": (GEVENT, FLASK),
    "asgi": (NATIVE, ASGI),
    "asgi, asyncio": (NATIVE + SLOW, ASGI),
    "asgi, Starlette": (NATIVE, STARLETTE),
    "asgi, FastAPI": (NATIVE, FASTAPI),
    "uvicorn": (UVICORN, ASGI),
    "uvicorn, FastAPI": (UVICORN, FASTAPI),
}
CLIENTS = {"kept": (), "new": ("-H", "Connection: close")}
"""Whether a connection is kept for the next request, or closed as nginx does unless told otherwise."""


def pairs(config: str, app: str, headers: tuple[str, ...]) -> list[tuple[float, float]]:
    """Microseconds of CPU per request, bare and recorded, of each two blocks that followed each other."""
    turns = (WSGI_TURNS if app in (APP, FLASK) else ASGI_TURNS) + TURNS.replace("REQUESTS", str(REQUESTS))
    found: list[tuple[float, float]] = []
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as folder:
            with gunicorn(Path(folder), turns + INSTALL + config, app=app) as (_, port):
                url = f"http://127.0.0.1:{port}/items/7"
                subprocess.run(["wrk", "-t1", "-c4", f"-d{SECONDS}s", *headers, url], check=True, capture_output=True)
            blocks = [1e6 * seconds / REQUESTS for seconds in json.loads((Path(folder) / "blocks").read_text())]
        found += list(zip(blocks[::2], blocks[1::2], strict=False))[WARM:]
    return found


def main() -> None:
    print(f"A request recorded, in a real worker, to a bare one: median of blocks of {REQUESTS} in turn")
    print("  (kept: connections are kept for the next request; new: each request comes on one of its own)")
    for name, (config, app) in WORKERS.items():
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        for kind, headers in CLIENTS.items():
            if kind == "kept" and name.startswith("sync"):  # it keeps none
                continue
            found = pairs(config, app, headers)
            cost = [ours - bare for bare, ours in found]
            error = 1.25 * statistics.stdev(cost) / len(cost) ** 0.5
            ratio = statistics.median(ours / bare for bare, ours in found)
            bare = statistics.median(bare for bare, _ in found)
            print(
                f"  {name:16} {kind:4}  +{statistics.median(cost):5.2f} µs ± {error:.2f}   "
                f"of {bare:5.1f} µs: {ratio:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
