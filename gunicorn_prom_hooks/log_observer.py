"""What gunicorn's error log is told, whether or not its level lets it through."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Mapping
from operator import is_
from threading import get_ident
from typing import Any, Final

Count = Callable[[str], None]
"""Told the level of each message. Must not raise."""
Listen = Callable[[object, Any], None]
"""Told text and arguments of each message of gunicorn's own, before anybody formats or alters it. Must not raise."""

_METHODS: Final = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "exception": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
}
"""Methods of gunicorn's logger. Not its debug: it is called with every request, and costs next to nothing hidden."""
_LOGGING: Final = logging.info.__code__.co_filename
"""The file whose frames logging leaves out when it looks for the caller of a method."""


def level_name(number: int) -> str:
    """The level's name, that of the next lower one for a level in between."""
    for name in ("critical", "error", "warning", "info"):
        if number >= _METHODS[name]:
            return name
    return "debug"


class LogObserver(logging.Filter):
    """Counts every message to gunicorn's error log, and listens to gunicorn's own.

    A filter on the log, which filters nothing out, counts what its level lets through. The methods of gunicorn's
    logger object, the only ones that gunicorn calls, are called through functions of ours: all of them in the master,
    which listens; in a worker those whose level is hidden, to be counted. That is on this one object; no class is
    touched.

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
        """By method of this logger: our function, and the method behind it."""
        self._functions: list[Any] = []
        """These functions, in the same order."""
        self._error_log: Any = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Counts it, and lets it through."""
        self._count(level_name(record.levelno))
        return True

    def attach(self, log: Any, *, listening: bool) -> None:
        """Watches a logger; to be done again after a reload, and in each worker.

        Args:
            log: gunicorn's logger; one that is not derived from gunicorn's is listened to and counted all the same.
            listening: in the master.
        """
        if listening and log is self._log and self._is_in_place():
            return
        error_log = getattr(log, "error_log", None)
        if isinstance(error_log, logging.Logger):
            error_log.addFilter(self)
        else:
            error_log = None
        if log is not self._log:
            self._log, self._watching = log, {}
        self._error_log = error_log
        for name, number in _METHODS.items():
            method = getattr(log, name, None)
            function, behind = self._watching.get(name, (None, None))
            watched = function is not None and method is function
            wanted = listening or error_log is None or not error_log.isEnabledFor(number)
            if watched and not wanted:
                if getattr(behind, "__self__", None) is log:  # the class's own, which is there again without ours
                    delattr(log, name)
                else:
                    setattr(log, name, behind)
            elif wanted and not watched and callable(method):
                function = self._watch(method, error_log, number)
                with contextlib.suppress(AttributeError):  # an object that takes no attributes
                    setattr(log, name, function)
                    self._watching[name] = function, method
        self._functions = [function for function, _ in self._watching.values()]

    def _is_in_place(self) -> bool:
        """Return whether all methods of gunicorn's logger are watched still. Asked before each fork: mostly in C."""
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
        def watching(msg: object = "", *args: Any, **kwargs: Any) -> Any:
            self._listen(msg, args)
            ident = get_ident()
            if ident in self._inside or (error_log is not None and error_log.isEnabledFor(number)):
                return method(msg, *args, **kwargs)
            # A logger class of the user's may pass a message on to another of these methods: it is one message.
            self._inside.add(ident)
            try:
                self._count(level_name(number))
                return method(msg, *args, **kwargs)
            finally:
                self._inside.discard(ident)

        # A logger class of the user's may ask who has called its method. To logging, and to all else that leaves out
        # frames as logging does, this function is a part of logging.
        function: Any = watching
        function.__code__ = function.__code__.replace(co_filename=_LOGGING)
        return watching
