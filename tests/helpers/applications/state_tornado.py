"""A Tornado application object with a state that hooks can change."""

from __future__ import annotations

from typing import ClassVar

import tornado.web


class Main(tornado.web.RequestHandler):
    def get(self):
        self.write(repr(sorted(app.state)))


class App(tornado.web.Application):
    state: ClassVar[dict[str, bool]] = {}

    def log_request(self, handler):
        self.state["logged"] = True


app = App([("/", Main)])
