"""Flask: its signals tell the URL rule that matched, and the exceptions that became a 500.

No signal tells of an exception that the application's own error handler answers. So the ``handle_user_exception`` of
each application is called through a function, from its first request on.

The environ has Flask's request object only while the application handles it: Flask 3 removes it at the end.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

from .annotations import is_new, note_error, note_route, noted

MODULE = "flask"
route = noted


def prepare() -> None:
    """Connect to Flask's own signals, of every Flask application in this process."""
    flask = sys.modules[MODULE]
    flask.request_started.connect(_note_rule, weak=False)
    flask.got_request_exception.connect(_note_error, weak=False)


def _note_rule(sender: Any, **extra: object) -> None:
    try:
        if is_new(sender):
            _watch(sender)
        request = sys.modules[MODULE].request
        rule, environ = request.url_rule, request.environ
        # Where an application is mounted below a path, its rules do not have it.
        note_route(environ, None if rule is None else rule.rule, environ.get("SCRIPT_NAME", ""))
    except Exception:  # noqa: BLE001, S110 - a signal's receiver runs inside the application; the path serves as well
        pass


def _note_error(sender: object, *, exception: BaseException, **extra: object) -> None:
    with suppress(Exception):
        note_error(sys.modules[MODULE].request.environ, exception)


def _watch(app: Any) -> None:
    handle = app.handle_user_exception

    def noting(*args: Any, **kwargs: Any) -> Any:
        response = handle(*args, **kwargs)  # it raises what has no handler
        with suppress(Exception):
            error = args[0] if args else kwargs["e"]
            # These are how an application says what to answer.
            if not isinstance(error, sys.modules["werkzeug.exceptions"].HTTPException):
                _note_error(app, exception=error)
        return response

    app.handle_user_exception = noting
