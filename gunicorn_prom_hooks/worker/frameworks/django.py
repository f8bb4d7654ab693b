"""Django: the match of the URL resolver, and the exceptions that became a 500.

The request object alone tells which URLconf it was resolved with, below which prefix and in which language, and no
signal hands it out. So the ``resolve_request`` of each handler object is called through a function of ours that notes
the match, or that there is none. No class is changed.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any

from .annotations import note_error, note_route, noted
from .instances import new_instances
from .patterns import readable

MODULE = "django.core.handlers.base"
route = noted


def prepare() -> None:
    """Watch every handler in this process, WSGI and ASGI, and connect to Django's signal."""
    signals = sys.modules["django.core.signals"]
    signals.got_request_exception.connect(_note_error, weak=False, dispatch_uid="gunicorn_prom_hooks")
    for handler in new_instances(sys.modules[MODULE].BaseHandler):
        _watch(handler, sys.modules["django.urls"].Resolver404)


def _watch(handler: Any, no_match: type[Exception]) -> None:
    resolve_request = handler.resolve_request

    def noting(request: Any) -> Any:
        try:
            match = resolve_request(request)
        except no_match:
            _note_match(request, None)
            raise
        _note_match(request, match)
        return match

    handler.resolve_request = noting


def _note_match(request: Any, match: Any) -> None:
    try:
        template = None if match is None else _template(match.route)
        note_route(_given(request), template, request.META.get("SCRIPT_NAME", "").rstrip("/"))
    except Exception:  # noqa: BLE001, S110 - runs inside the application; the path serves as well
        pass


def _note_error(sender: object, *, request: Any = None, **extra: object) -> None:
    try:
        exc = sys.exc_info()[1]
        if exc is not None:
            note_error(_given(request), exc)
    except Exception:  # noqa: BLE001, S110 - as above; the status serves as well
        pass


def _given(request: Any) -> Any:
    environ = getattr(request, "environ", None)
    return request.scope if environ is None else environ


@lru_cache(1024)
def _template(pattern: str) -> str:
    return "/" + readable(pattern)
