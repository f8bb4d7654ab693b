"""Starlette, and FastAPI, which is Starlette: the scope has the route, or leads to it.

All routers of an application work on one and the same scope, which may be a copy of the server's. ``endpoint`` in it
is always that of the innermost route; ``route`` is set by Starlette 1 and by FastAPI's own routes, and may be that of
an outer one. The ``middleware_stack`` of each router object is called through a coroutine that notes the scope
and what the router raises, and the exception handlers of each application object through functions that note what they
are given. No class is changed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from ...paths import normalize_path
from ...shm.schema import UNMATCHED
from .annotations import new_instances, note_error, noted, notes

MODULE = "starlette.routing"
REACHED: Final = "gunicorn_prom_hooks.starlette"
"""Key of the note on the router reached last: its scope, itself, and the endpoint that had led to it.

Once that is read, the route template is there instead.
"""

_MIDDLEWARE: Final = "starlette.middleware.base"
_MAX_KNOWN: Final = 1024
_MAX_DEPTH: Final = 16
_known: dict[tuple[int, int], tuple[Any, Any, tuple[Any, ...]]] = {}
"""Routes by router and endpoint, kept with both, so that no other objects get their ids."""


def prepare() -> None:
    """Watch every router and every application in this process."""
    for router in new_instances(sys.modules[MODULE].Router):
        _watch(router)
    applications = sys.modules.get("starlette.applications")
    for app in [] if applications is None else new_instances(applications.Starlette):
        for raised, handler in app.exception_handlers.items():
            # Those for a status make no failure of anything, and what those for any exception get, a router raised.
            if isinstance(raised, type) and raised is not Exception:
                app.exception_handlers[raised] = _noting(handler)


def _noting(handler: Any) -> Any:
    """Return an exception handler that notes the exception, and calls the application's."""

    def note(request: Any, exc: Exception) -> None:
        with suppress(Exception):
            if not _is_answer(exc):
                note_error(request.scope, exc)

    def noting(request: Any, exc: Exception) -> Any:
        note(request, exc)
        return handler(request, exc)

    async def noting_async(request: Any, exc: Exception) -> Any:
        note(request, exc)
        return await handler(request, exc)

    is_async = sys.modules["starlette._utils"].is_async_callable(handler)
    return noting_async if is_async else noting


def _watch(router: Any) -> None:
    stack = router.middleware_stack

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        try:
            if scope["type"] != "lifespan":
                notes(scope)[REACHED] = scope, router, scope.get("endpoint")
        except Exception:  # noqa: BLE001, S110 - it runs inside the application; the path serves as well
            pass
        try:
            await stack(scope, receive, send)
        except Exception as exc:
            with suppress(Exception):
                if not _is_answer(exc):
                    note_error(scope, exc)
            raise

    router.middleware_stack = watched


def route(scope: Mapping[str, Any]) -> str | None:
    """Return the path of the route, such as ``/items/{number:int}``."""
    if "type" not in scope:  # a WSGI environ
        return None
    kept = notes(scope)  # type: ignore[arg-type]  # it is not changed
    found = kept.get(REACHED)
    if found is None:
        return _template(scope, None, None)
    if isinstance(found, str):
        return found
    kept[REACHED] = None  # it is asked for once, and holds the scope no longer
    template = kept[REACHED] = _template(*found)
    return template


def error(scope: Mapping[str, Any]) -> str | None:
    """Return the class name of the exception that is being handled, while Starlette sends the response made of it.

    What was raised in order to be the answer, an ``HTTPException``, is none.
    """
    if "type" not in scope:
        return None
    applications = sys.modules.get("starlette.applications")
    if REACHED not in notes(scope) and (  # type: ignore[arg-type]
        applications is None or not isinstance(scope.get("app"), applications.Starlette)
    ):
        return None
    exc = sys.exc_info()[1]
    return None if exc is None or _is_answer(exc) else type(exc).__name__


def has_broken_off(exc: BaseException) -> bool:
    """Return whether this has ended a response that ``BaseHTTPMiddleware`` has sent an end of nevertheless.

    It calls the application as a task, and sends an empty last piece before it raises the exception of that. One that
    was raised before the response started has come out of ``call_next``, and one of a background task is none.
    """
    frames: set[tuple[Any, str]] = set()
    traceback = exc.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        frames.add((frame.f_globals.get("__name__"), frame.f_code.co_name))
        traceback = traceback.tb_next
    if (_MIDDLEWARE, "coro") not in frames or (_MIDDLEWARE, "call_next") in frames:
        return False
    return all(module != "starlette.background" for module, _ in frames)


def _is_answer(exc: BaseException) -> bool:
    return isinstance(exc, sys.modules["starlette.exceptions"].HTTPException)


def _template(scope: Mapping[str, Any], reached: Any, before: Any) -> str | None:
    """Return the path of the route that has matched; None if it is not certain that Starlette has looked for one.

    Args:
        scope: as Starlette has it.
        reached: the router that was called last; None if it is not known.
        before: the endpoint at that moment.
    """
    endpoint: Any = scope.get("endpoint")
    matched: Any = scope.get("route")
    is_simple = matched is not None and not scope.get("root_path") and "fastapi" not in scope
    if is_simple and endpoint is not None and getattr(matched, "endpoint", None) is endpoint:
        return str(matched.path)  # the usual case, in short: a route of its own, below no mount
    router = scope.get("router")
    if not isinstance(router, sys.modules[MODULE].Router):  # another framework, or a middleware has answered
        return None
    if endpoint is None:
        return _without_route(reached or router)
    matched = _matched(scope, endpoint, reached or router) or _matched(scope, endpoint, router)
    if not hasattr(matched, "routes"):
        return None if matched is None else str(_mount(scope, matched.param_convertors) + matched.path)
    # Nothing but a mount has matched: of another router, or of whatever application.
    if reached is not None and endpoint is before:
        return _without_route(reached)
    return None if matched.routes else noted(scope) or _mount(scope, ()) + "/{path:path}"


def _without_route(router: Any) -> str | None:
    """Return what a request is called that matches no route of this router, which may hand it on to another one."""
    return UNMATCHED if getattr(router.default, "__self__", None) is router else None


def _matched(scope: Mapping[str, Any], endpoint: Any, router: Any) -> Any:
    """Return the route that this endpoint belongs to; None if it cannot be told."""
    # A router that FastAPI has included keeps its routes as they are, and their whole path in here.
    included = scope.get("fastapi", {}).get("effective_route_context")
    for candidate in (getattr(included, "starlette_route", None), included, scope.get("route")):
        if _endpoint(candidate) is endpoint:
            return candidate
    known = _known.get((id(router), id(endpoint)))
    if known is None:
        if len(_known) >= _MAX_KNOWN:
            _known.clear()
        found = tuple(_of_endpoint(router.routes, endpoint, _MAX_DEPTH))
        known = _known[id(router), id(endpoint)] = router, endpoint, found
    routes = known[2]
    if len(routes) > 1:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        routes = tuple(each for each in routes if hasattr(each, "routes") or each.path_regex.match(path))
    return routes[0] if routes else None


def _endpoint(candidate: Any) -> Any:
    return getattr(candidate, "endpoint", None) or getattr(candidate, "app", None)


def _of_endpoint(routes: Iterable[Any], endpoint: Any, depth: int) -> Iterator[Any]:
    for each in routes:
        if _endpoint(each) is endpoint:
            yield each
        elif depth:
            yield from _of_endpoint(getattr(each, "routes", None) or (), endpoint, depth - 1)


def _mount(scope: Mapping[str, Any], own: Iterable[str]) -> str:
    """Return the start of the path, before that of the route: the mounts, with their parameters put back.

    Args:
        scope: of the request.
        own: names of the parameters that the route has itself.
    """
    root = str(scope.get("root_path", "")).rstrip("/")
    if not scope["path"].startswith(root):
        return ""  # a prefix that a proxy has taken off
    others = [(name, value) for name, value in scope.get("path_params", {}).items() if name not in own]
    if not root or not others:
        return root
    template, replaced = root + "/", 0
    for name, value in others:
        if f"/{value}/" in template:
            template, replaced = template.replace(f"/{value}/", f"/{{{name}}}/", 1), replaced + 1
    return template[:-1] if replaced == len(others) else normalize_path(template[:-1])
