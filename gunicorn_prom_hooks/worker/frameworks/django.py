"""Django: the match that its handler left on the request, and the exceptions that became a 500.

Only the request object knows which URLconf it was resolved with, below which prefix and in which language, and no
signal hands it out. So the ``get_response`` of each handler object is called through a function of ours that looks at
the request afterwards. No class is changed.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any, Final

from .instances import instances
from .notes import note_error, note_route, noted
from .patterns import readable

MODULE = "django.core.handlers.base"
route = noted

_OURS: Final = "gunicorn_prom_hooks"


def prepare() -> None:
    """Looks over the shoulder of every handler in this process, WSGI and ASGI, and listens to Django's signal."""
    signals = sys.modules["django.core.signals"]
    signals.got_request_exception.connect(_note_error, weak=False, dispatch_uid=_OURS)
    for handler in instances(sys.modules[MODULE].BaseHandler):
        if not hasattr(handler.get_response, _OURS):
            _watch(handler)


def _watch(handler: Any) -> None:
    get_response, get_response_async = handler.get_response, handler.get_response_async

    def noting(request: Any) -> Any:
        try:
            return get_response(request)
        finally:
            _note_match(request)

    async def noting_async(request: Any) -> Any:
        try:
            return await get_response_async(request)
        finally:
            _note_match(request)

    setattr(noting, _OURS, True)
    handler.get_response, handler.get_response_async = noting, noting_async


def _note_match(request: Any) -> None:
    try:
        match = request.resolver_match
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
