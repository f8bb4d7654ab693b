"""Bottle: a hook, added with Bottle's own ``add_hook``, reads the route that Bottle has left in its environ.

Bottle does not tell of exceptions that it turns into a 500.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from .annotations import new_instances, note_no_route, note_route, noted

MODULE = "bottle"
route = noted


def prepare() -> None:
    """Add the hook to every Bottle application in this process."""
    for app in new_instances(sys.modules[MODULE].Bottle):
        app.add_hook("after_request", _hook(app))


def _hook(app: Any) -> Callable[[], None]:
    bottle = sys.modules[MODULE]

    def note() -> None:
        try:
            environ = bottle.request.environ
            if environ["bottle.app"] is app:  # else another Bottle, mounted in this one, has handled the request
                _note(app, environ, bottle.response.status_code)
        except Exception:  # noqa: BLE001, S110 - it runs inside the application; the path serves as well
            pass

    return note


def _note(app: Any, environ: Any, status: int) -> None:
    matched = environ.get("bottle.route")
    target = None if matched is None else matched.config.get("mountpoint.target")
    if matched is None or (target is not None and all(each is not matched for each in app.routes)):
        note_no_route(environ, status)  # the route is that of another Bottle, whose mount has led to this one
    elif target is None or noted(environ) is None:
        note_route(environ, matched.rule, environ.get("SCRIPT_NAME", "").rstrip("/"))
