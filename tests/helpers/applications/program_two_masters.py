"""A program with two gunicorn masters, each with options of its own: ``run.py PORT METRICS_PORT PORT METRICS_PORT``."""

from __future__ import annotations

import multiprocessing
import signal
import sys

from app import app
from gunicorn.app.base import BaseApplication

from gunicorn_prom_hooks import install


class Application(BaseApplication):
    def __init__(self, options):
        self.options = options
        super().__init__()

    def load_config(self):
        for name, value in self.options.items():
            self.cfg.set(name, value)

    def load(self):
        return app


programs = []
for port, metrics_port in (sys.argv[1:3], sys.argv[3:5]):
    options = {"bind": "127.0.0.1:" + port, "control_socket_disable": True, "worker_class": "sync"}
    install(options, port=int(metrics_port))
    programs.append(options)
install({}, port=1)
context = multiprocessing.get_context("fork")
masters = [context.Process(target=Application(options).run) for options in programs]
for master in masters:
    master.start()
print("masters", *(master.pid for master in masters), flush=True)  # noqa: T201 - the test reads it


def end_masters(*_):
    for master in masters:
        master.terminate()


signal.signal(signal.SIGTERM, end_masters)
for master in masters:
    master.join()
