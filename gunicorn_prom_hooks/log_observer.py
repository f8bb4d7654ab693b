"""Observer of all messages to gunicorn's error log, including those that its level suppresses."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Mapping
from operator import is_
from threading import get_ident
from typing import Any, Final

Count = Callable[[str], None]
"""Called with the level of each message. Must not raise."""
Listen = Callable[[object, Any], None]
"""Called with text and arguments of each of gunicorn's own messages, before it is formatted. Must not raise."""

_METHODS: Final = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "exception": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
}
"""Methods of gunicorn's logger. Without debug, which is called with every request and is cheap while suppressed."""
_NAMES: Final = {number: name for name, number in _METHODS.items() if name != "exception"}
_LOWEST: Final = min(_METHODS.values())
_LOGGING: Final = logging.info.__code__.co_filename
"""File whose frames logging skips when it looks for the caller of a method."""


def level_name(number: int) -> str:
    """Return the name of a level, or of the next lower named level."""
    for name in ("critical", "error", "warning", "info"):
        if number >= _METHODS[name]:
            return name
    return "debug"


class LogObserver(logging.Filter):
    """Counter of all messages to gunicorn's error log, and listener to gunicorn's own messages.

    A filter on the log, which drops nothing, counts the messages that pass the level. The methods of gunicorn's
    logger object, the only ones that gunicorn calls, are wrapped. In the master, which listens, all of them are. In a
    worker only those are whose level is suppressed, to be counted. Only this one object is changed, no class.

    Args:
        count: see ``Count``.
        listen: see ``Listen``.
    """

    def __init__(self, count: Count, listen: Listen) -> None:
        super().__init__()
        self._count = count
        self._listen = listen
        self._inside: set[int] = set()
        self._log: Any = None
        self._watching: dict[str, tuple[Any, Any]] = {}
        """By name of the method: the wrapper, and the wrapped method."""
        self._functions: list[Any] = []
        """The wrappers, in the same order."""
        self._error_log: Any = None
        self._is_refusal_logged = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Count the record, and let it pass."""
        self._count(_NAMES.get(record.levelno) or level_name(record.levelno))
        return True

    def attach(self, log: Any, *, listening: bool) -> None:
        """Observe a logger. To be called again after a reload, and in each worker.

        Args:
            log: gunicorn's logger. It need not be derived from gunicorn's class.
            listening: whether all messages are listened to, as in the master.
        """
        if listening and log is self._log and self._is_in_place():
            return
        error_log = getattr(log, "error_log", None)
        if not isinstance(error_log, logging.Logger):
            error_log = None
        elif self not in error_log.filters:
            error_log.addFilter(self)
        if log is not self._log:
            self._log, self._watching = log, {}
        self._error_log = error_log
        # Asked once: each worker does this, and each function called copies memory that was shared until then.
        hides_none = error_log is not None and error_log.isEnabledFor(_LOWEST)
        for name, number in _METHODS.items():
            method = getattr(log, name, None)
            function, behind = self._watching.get(name, (None, None))
            watched = function is not None and method is function
            wanted = listening or not (hides_none or (error_log is not None and error_log.isEnabledFor(number)))
            if watched and not wanted:
                if getattr(behind, "__self__", None) is log:  # the class's own, visible again without the wrapper
                    delattr(log, name)
                else:
                    setattr(log, name, behind)
            elif wanted and not watched and callable(method):
                function = self._watch(method, error_log, number)
                with contextlib.suppress(AttributeError):  # an object that takes no attributes
                    setattr(log, name, function)
                    self._watching[name] = function, method
        self._functions = [function for function, _ in self._watching.values()]
        if listening and not self._watching and not self._is_refusal_logged:
            self._is_refusal_logged = True
            with contextlib.suppress(Exception):
                log.warning(
                    "gunicorn_prom_hooks: the logger's methods cannot be wrapped: why workers exit is known in part "
                    "only, and messages below its level are not counted"
                )

    def _is_in_place(self) -> bool:
        """Return whether all methods of the logger are still wrapped. Called before each fork: runs mostly in C."""
        own: Mapping[str, Any] = getattr(self._log, "__dict__", {})
        error_log: Any = self._error_log
        return (
            error_log is not None
            and self in error_log.filters
            and own.get("error_log") is error_log
            and len(self._functions) == len(_METHODS)
            and all(map(is_, map(own.get, self._watching), self._functions))
        )

    def _watch(self, method: Callable[..., Any], error_log: logging.Logger | None, number: int) -> Callable[..., Any]:
        @functools.wraps(method)
        def watching(*args: Any, **kwargs: Any) -> Any:
            # gunicorn's own messages are positional. A user's logger class may call the parameter by any name.
            if args:
                self._listen(args[0], args[1:])
            ident = get_ident()
            if ident in self._inside or (error_log is not None and error_log.isEnabledFor(number)):
                return method(*args, **kwargs)
            # A user's logger class may pass a message on to another of these methods: it counts once.
            self._inside.add(ident)
            try:
                self._count(level_name(number))
                return method(*args, **kwargs)
            finally:
                self._inside.discard(ident)

        # A user's logger class may look for the caller of its method. With this file name the wrapper is skipped by
        # logging, and by all code that skips frames as logging does.
        function: Any = watching
        function.__code__ = function.__code__.replace(co_filename=_LOGGING)
        return watching
