"""Pyramid: the route that its router left on the request, and the exception that an exception view has answered.

Pyramid's events would tell as much, but an application without subscribers then pays for four of them per request. So
``handle_request`` of each router object is called through a function that reads the request afterwards. No
class is changed. Where no route matches, Pyramid goes on with traversal: that there is none tells nothing.
"""

from __future__ import annotations

import sys
from typing import Any

from .annotations import new_instances, note_error, note_route, noted

MODULE = "pyramid.router"
route = noted


def prepare() -> None:
    """Watch every Pyramid application in this process."""
    for router in new_instances(sys.modules[MODULE].Router):
        _watch(router)


def _watch(router: Any) -> None:
    handle_request = router.handle_request

    def noting(request: Any) -> Any:
        try:
            return handle_request(request)
        finally:
            _note(request)

    router.handle_request = noting


def _note(request: Any) -> None:
    try:
        environ, matched, exc = request.environ, request.matched_route, request.exception
        if matched is not None:
            note_route(environ, "/" + matched.pattern.lstrip("/"), environ.get("SCRIPT_NAME", ""))
        # One that is a response itself is how an application says what to answer.
        if exc is not None and not sys.modules["pyramid.interfaces"].IExceptionResponse.providedBy(exc):
            note_error(environ, exc)
    except Exception:  # noqa: BLE001, S110 - runs inside the application; the path serves as well
        pass
