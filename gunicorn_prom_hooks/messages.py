"""What gunicorn's error log is told, whether or not its level lets it through."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from threading import get_ident
from typing import Any, Final

Seen = Callable[[str, object, Any], None]
"""Level, text and arguments of a message, the text not yet formatted. Must not raise."""

_HIDEABLE: Final = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "exception": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
}
"""Methods of gunicorn's logger. Not its debug: it is called with every request, and costs next to nothing hidden."""
_WATCHED: Final = "_gunicorn_prom_hooks_watched"


def level_name(number: int) -> str:
    """The level's name, that of the next lower one for a level in between."""
    for name in ("critical", "error", "warning", "info"):
        if number >= _HIDEABLE[name]:
            return name
    return "debug"


class Messages(logging.Filter):
    """Passes on every message of gunicorn's error log and filters none out.

    A filter on the log sees what its level lets through. What it hides is seen in the methods of gunicorn's logger
    object, the only ones that gunicorn calls: those whose level is hidden are called through a function of ours, on
    this one object; no class is touched.

    Args:
        seen: told of each message once.
    """

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self._seen = seen
        self._inside: set[int] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Passes it on, and lets it through."""
        self._seen(level_name(record.levelno), record.msg, record.args)
        return True

    def attach(self, log: Any) -> None:
        """Watches a logger of gunicorn's; to be done again after a reload. A logger of another kind is left alone."""
        error_log = getattr(log, "error_log", None)
        if not isinstance(error_log, logging.Logger):
            return
        error_log.addFilter(self)
        for name, number in _HIDEABLE.items():
            watched = hasattr(vars(log).get(name), _WATCHED)
            if error_log.isEnabledFor(number):
                if watched:
                    delattr(log, name)  # the class's own is behind it
            elif not watched and name not in vars(log):
                setattr(log, name, self._watching(getattr(log, name), error_log, number))

    def _watching(self, method: Callable[..., Any], error_log: logging.Logger, number: int) -> Callable[..., Any]:
        @functools.wraps(method)
        def watching(msg: object, *args: Any, **kwargs: Any) -> Any:
            ident = get_ident()
            if error_log.isEnabledFor(number) or ident in self._inside:
                return method(msg, *args, **kwargs)
            # A logger class of the user's may pass a message on to another of these methods: it is one message.
            self._inside.add(ident)
            try:
                self._seen(level_name(number), msg, args)
                return method(msg, *args, **kwargs)
            finally:
                self._inside.discard(ident)

        setattr(watching, _WATCHED, True)
        return watching
