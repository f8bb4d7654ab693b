"""Flask: a signal at the start of a request tells the URL rule that matched.

The environ has Flask's request object only while the application is at it: Flask 3 takes it out at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from ...scoreboard.families import UNMATCHED

MODULE = "flask"

_RULE = "gunicorn_prom_hooks.flask.rule"


def prepare() -> None:
    """Listens to Flask's own signal, of every Flask application in this process."""
    sys.modules[MODULE].request_started.connect(_note_rule, weak=False)


def route(environ: Mapping[str, Any]) -> str | None:
    """The URL rule, such as ``/items/<int:id>``; ``<unmatched>`` if Flask had the request and no rule for it."""
    return environ.get(_RULE)


def _note_rule(sender: object, **extra: object) -> None:
    try:
        request = sys.modules[MODULE].request
        rule = request.url_rule
        # Where an application is mounted below a path, its rules do not have it.
        mount = request.environ.get("SCRIPT_NAME", "")
        request.environ[_RULE] = UNMATCHED if rule is None else mount + rule.rule
    except Exception:  # noqa: BLE001, S110 - a signal's receiver runs inside the application; the path serves as well
        pass
