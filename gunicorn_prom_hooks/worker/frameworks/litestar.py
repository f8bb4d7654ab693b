"""Litestar: it leaves the template in the scope, and calls hooks of the application with exceptions.

Its ``asgi_handler`` is called through a function that notes the scope, which may be a copy of the server's.
No class is changed.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

from .annotations import instances, note_error, note_route, noted, notes

MODULE = "litestar.app"
REACHED: Final = "gunicorn_prom_hooks.litestar"
"""Key of the note on the scope that Litestar was called with, and once that is read, the route template."""


def prepare() -> None:
    """Watch every Litestar application in this process, and add a hook to its ``after_exception``."""
    for app in instances(sys.modules[MODULE].Litestar):
        if _note_error not in app.after_exception:
            app.after_exception.append(_note_error)
            _watch(app)


def _watch(app: Any) -> None:
    handler = app.asgi_handler

    def noting(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        with suppress(Exception):  # it runs inside the application; the path serves as well
            notes(scope)[REACHED] = (scope,)
        return handler(scope, receive, send)  # type: ignore[no-any-return]

    app.asgi_handler = noting


async def _note_error(exc: Exception, scope: Any) -> None:
    with suppress(Exception):
        exceptions = sys.modules["litestar.exceptions"]
        if not isinstance(exc, exceptions.HTTPException):  # else it says what to answer
            note_error(scope, exc)
        elif "path_template" not in scope and exc.status_code in (404, 405):  # it is the router's
            note_route(scope, None)


def route(scope: Mapping[str, Any]) -> str | None:
    """Return the template, such as ``/items/{number}``; None if no route has matched."""
    if "type" not in scope:  # a WSGI environ
        return None
    kept = notes(scope)  # type: ignore[arg-type]  # it is not changed
    found = kept.get(REACHED)
    if found is None or isinstance(found, str):
        return found
    kept[REACHED] = None  # it is asked for once, and holds the scope no longer
    template = kept[REACHED] = _template(*found)
    return template


def _template(scope: Mapping[str, Any]) -> str | None:
    template = scope.get("path_template")
    if template is None:
        return None
    root = str(scope.get("root_path", "")).rstrip("/")
    if not bytes(scope.get("raw_path") or b"").startswith(root.encode()):
        root = ""  # a prefix that a proxy has taken off
    if template:
        return str(root + template)
    # A mount: of the path, Litestar has left what comes after it.
    return noted(scope) or f"{root}{_mount(scope['litestar_app'], scope['route_handler'])}/{{path:path}}"


@lru_cache(1024)
def _mount(app: Any, handler: Any) -> str:
    paths = (str(each.path) for each in app.routes if getattr(each, "route_handler", None) is handler)
    return next(paths, "").rstrip("/")
