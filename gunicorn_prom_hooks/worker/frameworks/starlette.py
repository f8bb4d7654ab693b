"""Starlette, and FastAPI, which is Starlette: the scope has the route, or leads to it.

All routers of an application work on one and the same scope. ``endpoint`` in it is always that of the innermost route;
``route`` is set by Starlette 1 and by FastAPI's own routes, and may be that of an outer one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ...paths import normalise
from ...scoreboard.families import UNMATCHED
from .notes import noted

MODULE = "starlette.routing"

_MAX_KNOWN: Final = 1024
_MAX_DEPTH: Final = 16
_known: dict[tuple[int, int], tuple[Any, Any, tuple[Any, ...]]] = {}
"""Routes by their application's outermost router and their endpoint, kept with both, so that no other gets the ids."""


def prepare() -> None:
    """There is nothing to prepare."""


def route(scope: Mapping[str, Any]) -> str | None:
    """The path of the route, such as ``/items/{number:int}``."""
    if "type" not in scope:  # a WSGI environ
        return None
    endpoint: Any = scope.get("endpoint")
    matched: Any = scope.get("route")
    is_simple = matched is not None and not scope.get("root_path") and "fastapi" not in scope
    if is_simple and endpoint is not None and getattr(matched, "endpoint", None) is endpoint:
        return str(matched.path)  # the usual case, in short: a route of its own, below no mount
    if endpoint is None or "router" not in scope:
        return UNMATCHED if "router" in scope or "app" in scope else None
    matched = _matched(scope, endpoint)
    if matched is None:
        return None
    if hasattr(matched, "routes"):  # nothing but a mount has matched: of another router, or of who knows what
        return UNMATCHED if matched.routes else noted(scope) or _mount(scope, ()) + "/{path:path}"
    return str(_mount(scope, matched.param_convertors) + matched.path)


def error(scope: Mapping[str, Any]) -> str | None:
    """Class name of the exception that is being handled, where Starlette answers one while the response is sent.

    What was raised in order to be the answer, an ``HTTPException``, is none.
    """
    if "type" not in scope or "app" not in scope:
        return None
    exc = sys.exc_info()[1]
    if exc is None or isinstance(exc, sys.modules["starlette.exceptions"].HTTPException):
        return None
    return type(exc).__name__


def _matched(scope: Mapping[str, Any], endpoint: Any) -> Any:
    """The route that this endpoint belongs to; None if it cannot be told."""
    # A router that FastAPI has included keeps its routes as they are, and their whole path in here.
    included = scope.get("fastapi", {}).get("effective_route_context")
    for candidate in (getattr(included, "starlette_route", None), included, scope.get("route")):
        if _endpoint(candidate) is endpoint:
            return candidate
    router = scope["router"]
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
    """What the path begins with before that of the route: the mounts, with their parameters put back.

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
    return template[:-1] if replaced == len(others) else normalise(template[:-1])
