"""A program with a custom gunicorn application: ``run.py PORT METRICS_PORT``."""

from __future__ import annotations

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


options = {"bind": "127.0.0.1:" + sys.argv[1], "control_socket_disable": True}
install(options, port=int(sys.argv[2]))
Application(options).run()
