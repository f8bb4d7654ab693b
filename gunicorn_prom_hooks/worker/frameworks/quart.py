"""Quart: its signals tell the URL rule that matched, and the exceptions that became a 500.

The signals are Quart's own, beside those of Flask, which Quart imports. A receiver that is no coroutine would be called
on another thread. What the application's own error handler answers is known as with Flask.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

from .annotations import is_new, note_error, note_route, noted

MODULE = "quart.app"
route = noted


def prepare() -> None:
    """Connect to the signals of every Quart application in this process."""
    signals = sys.modules["quart.signals"]
    signals.request_started.connect(_note_rule, weak=False)
    signals.websocket_started.connect(_note_websocket_rule, weak=False)
    signals.got_request_exception.connect(_note_error, weak=False)


async def _note_rule(sender: Any, **extra: object) -> None:
    with suppress(Exception):  # a signal's receiver runs inside the application; the path serves as well
        if is_new(sender):
            _watch(sender)
        _note(sys.modules["quart.globals"].request)


async def _note_websocket_rule(sender: object, **extra: object) -> None:
    with suppress(Exception):
        _note(sys.modules["quart.globals"].websocket)


async def _note_error(sender: object, *, exception: BaseException, **extra: object) -> None:
    with suppress(Exception):
        note_error(sys.modules["quart.globals"].request.scope, exception)


def _watch(app: Any) -> None:
    handle = app.handle_user_exception

    async def noting(*args: Any, **kwargs: Any) -> Any:
        response = await handle(*args, **kwargs)  # it raises what has no handler
        with suppress(Exception):
            error = args[0] if args else kwargs["error"]
            # These are how an application says what to answer.
            if not isinstance(error, sys.modules["werkzeug.exceptions"].HTTPException):
                await _note_error(app, exception=error)
        return response

    app.handle_user_exception = noting


def _note(request: Any) -> None:
    rule, scope = request.url_rule, request.scope
    # Its rules are matched with what comes after the root path.
    note_route(scope, None if rule is None else rule.rule, scope.get("root_path", ""))
