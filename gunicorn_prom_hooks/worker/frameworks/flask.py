"""Flask: its signals tell the URL rule that matched, and the exceptions that became a 500.

The environ has Flask's request object only while the application handles it: Flask 3 removes it at the end.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from .annotations import note_error, note_route, noted

MODULE = "flask"
route = noted


def prepare() -> None:
    """Connect to Flask's own signals, of every Flask application in this process."""
    flask = sys.modules[MODULE]
    flask.request_started.connect(_note_rule, weak=False)
    flask.got_request_exception.connect(_note_error, weak=False)


def _note_rule(sender: object, **extra: object) -> None:
    try:
        request = sys.modules[MODULE].request
        rule, environ = request.url_rule, request.environ
        # Where an application is mounted below a path, its rules do not have it.
        note_route(environ, None if rule is None else rule.rule, environ.get("SCRIPT_NAME", ""))
    except Exception:  # noqa: BLE001, S110 - a signal's receiver runs inside the application; the path serves as well
        pass


def _note_error(sender: object, *, exception: BaseException, **extra: object) -> None:
    with suppress(Exception):
        note_error(sys.modules[MODULE].request.environ, exception)
