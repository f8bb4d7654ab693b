"""Pyramid: its events tell the route that matched, and the exception that an exception view has answered.

Where no route matches, Pyramid goes on with traversal: that there is none tells nothing.
"""

from __future__ import annotations

import sys
from typing import Any

from .notes import note_error, note_route, noted

MODULE = "pyramid.config"
route = noted


def prepare() -> None:
    """Listens to the events of every Pyramid application in this process."""
    interfaces = sys.modules["pyramid.interfaces"]
    for registry in sys.modules[MODULE].global_registries:
        registry.registerHandler(_note_pattern, (interfaces.IBeforeTraversal,))
        registry.registerHandler(_note_error, (interfaces.INewResponse,))


def _note_pattern(event: Any) -> None:
    try:
        matched = event.request.matched_route
        if matched is not None:
            environ = event.request.environ
            note_route(environ, "/" + matched.pattern.lstrip("/"), environ.get("SCRIPT_NAME", ""))
    except Exception:  # noqa: BLE001, S110 - runs inside the application; the path serves as well
        pass


def _note_error(event: Any) -> None:
    try:
        exc = event.request.exception
        # One that is a response itself is how an application says what to answer.
        if exc is not None and not sys.modules["pyramid.interfaces"].IExceptionResponse.providedBy(exc):
            note_error(event.request.environ, exc)
    except Exception:  # noqa: BLE001, S110 - as above; the status serves as well
        pass
