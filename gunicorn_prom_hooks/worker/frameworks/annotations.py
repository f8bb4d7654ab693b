"""Annotations of a request, left by hooks in frameworks for its end, and the objects that such hooks are added to.

Annotations are kept with an object that the server makes for each request, and that every shallow copy of the environ
or scope shares. So they survive a middleware that passes on a copy. Those on a scope are kept beside its dict ``asgi``,
by the id of that: an application may return it, or copy it. The keys are the same for all frameworks. If several
frameworks handle a request, the last annotation counts: that of the mounted application, or of the one tried last.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

from gunicorn.http.wsgi import WSGIErrorsWrapper

from ...shm.schema import UNMATCHED

ROUTE: Final = "gunicorn_prom_hooks.route"
ERROR: Final = "gunicorn_prom_hooks.error"
_KNOWN: Final = "gunicorn_prom_hooks"
"""Attribute of an object that a hook was added to."""
NOTES: Final = "gunicorn_prom_hooks.notes"
"""Key in the WSGI environ of a dict for notes, for servers that share ``wsgi.errors`` among requests."""
_ASGI: Final = "gunicorn_prom_hooks.asgi"
"""Key in the notes on a scope of what they belong to. So its id is that of no other object."""

scopes: Final[dict[int, dict[str, Any]]] = {}
"""Notes on the server's requests in progress, by the id of the dict ``asgi`` of their scope."""


def notes(given: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Return the mapping that holds the notes on a request.

    Args:
        given: WSGI environ or ASGI scope, or a shallow copy of it.

    Returns:
        Of a scope, what ``scopes`` has. Of an environ, the dict ``NOTES`` where another library makes the environ, else
        the attributes of gunicorn's ``wsgi.errors``, else the notes of the scope that a2wsgi has made it from. Else
        ``given``.
    """
    kept = given.get("asgi")
    if kept is None:
        kept = given.get(NOTES)
        if kept is None:
            errors = given.get("wsgi.errors")
            if type(errors) is WSGIErrorsWrapper:
                return errors.__dict__
            scope = given.get("asgi.scope")
            return given if scope is None else notes(scope)
        return kept  # type: ignore[no-any-return]
    found = scopes.get(id(kept))
    return {} if found is None else found  # a call by the application itself is no request


def remember(scope: Mapping[str, Any]) -> int:
    """Have notes on a request kept. Return their key in ``scopes``: to be removed when the application is done."""
    asgi = scope.get("asgi")
    key = id(asgi)
    scopes[key] = {_ASGI: asgi}
    return key


def noted(given: Mapping[str, Any]) -> str | None:
    """Return the route template that a framework has noted."""
    if NOTES not in given:  # the usual case, in short: it is asked for every request
        errors = given.get("wsgi.errors")
        if type(errors) is WSGIErrorsWrapper:
            return errors.__dict__.get(ROUTE)
    return notes(given).get(ROUTE)  # type: ignore[arg-type]  # it only reads


def note_route(given: MutableMapping[str, Any], template: str | None, mount: str = "") -> None:
    """Note the route template, which comes after the mount; None: the framework has matched no route."""
    notes(given)[ROUTE] = UNMATCHED if template is None else mount + template


def note_no_route(given: MutableMapping[str, Any], status: int) -> None:
    """Note that a framework has answered without a route.

    That no route matches is certain for a 404 and a 405 only. Otherwise a middleware may have answered before routing.
    """
    notes(given)[ROUTE] = UNMATCHED if status in (404, 405) else None


def note_error(given: MutableMapping[str, Any], exc: BaseException) -> None:
    """Note an exception that the framework is about to turn into a response."""
    notes(given)[ERROR] = type(exc).__name__


def instances(base: type) -> list[Any]:
    """Return all objects of that class and of those derived from it.

    The garbage collector lists the objects that refer to a class. It only reads: memory that a worker shares with the
    master stays shared. Objects that ``gc.freeze()`` has hidden are put back meanwhile, which only joins two lists.
    """
    classes: set[type] = set()
    new: list[type] = [base]
    while new:
        cls = new.pop()
        if cls not in classes:
            classes.add(cls)
            new += type.__subclasses__(cls)
    frozen, enabled = gc.get_freeze_count() > 0, gc.isenabled()
    if frozen:
        gc.disable()
        gc.unfreeze()
    try:
        return [found for found in gc.get_referrers(*classes) if type(found) in classes]
    finally:
        if frozen:
            gc.freeze()
            if enabled:
                gc.enable()


def new_instances(base: type) -> list[Any]:
    """Return those objects that have not been returned before, so that a hook is added to each only once."""
    return [each for each in instances(base) if is_new(each)]


def is_new(each: Any) -> bool:
    """Return whether this was not asked for the object before, so that a hook is added to it only once."""
    if _KNOWN in vars(each):
        return False
    vars(each)[_KNOWN] = True
    return True
