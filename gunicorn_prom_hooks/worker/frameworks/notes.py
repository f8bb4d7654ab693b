"""What a framework tells of a request while it is at it, left in the WSGI environ or the ASGI scope.

The keys are the same for all frameworks. Of several that have had the request, the last one counts: the one that is
mounted in the other, or the one that was tried after the other had nothing. Where a middleware hands on a copy, the
note is lost with it, and nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, Final

from ...scoreboard.families import UNMATCHED

ROUTE: Final = "gunicorn_prom_hooks.route"
ERROR: Final = "gunicorn_prom_hooks.error"


def noted(given: Mapping[str, Any]) -> str | None:
    """The route template that a framework has told."""
    return given.get(ROUTE)


def note_route(given: MutableMapping[str, Any], template: str | None, mount: str = "") -> None:
    """Leaves word of the route template, which comes after the mount; of None, that no route matched."""
    given[ROUTE] = UNMATCHED if template is None else mount + template


def note_error(given: MutableMapping[str, Any], exc: BaseException) -> None:
    """Leaves word of an exception that the framework is about to make a response of."""
    given[ERROR] = type(exc).__name__
