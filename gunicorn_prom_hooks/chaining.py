"""Two hooks as one: ours, which never raises, then the user's, untouched."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from gunicorn.config import make_settings

AnyHook = Callable[..., Any]

_THEIRS: Final = "_gunicorn_prom_hooks_theirs"
"""On a hook of ours: the user's hook that runs after it, or None."""


def mark_as_ours(hook: AnyHook) -> None:
    """Says of a function that it is one of our hooks, with nothing behind it."""
    setattr(hook, _THEIRS, None)


def is_ours(hook: object) -> bool:
    """Whether this is one of our hooks, alone or with the user's behind it."""
    return hasattr(hook, _THEIRS)


def chain(name: str, ours: AnyHook, theirs: object) -> AnyHook:
    """Our hook, followed by what the user has set for that name, if anything.

    Raises:
        TypeError: the user's is not a hook; gunicorn's own validator says so.
    """
    # The validator also resolves "module.function", and makes four parameters of post_request's two or three.
    return _joined(name, ours, None if theirs is None else _gunicorn_settings()[name].validator(theirs))


def specialise(worker: Any, pre_request: AnyHook, post_request: AnyHook) -> bool:
    """Puts the request hooks that were made for this worker where gunicorn calls them, with nothing in between.

    Returns:
        Whether it did: not where the user calls our hooks by name from their own.
    """
    cfg = worker.cfg
    made = {"pre_request": pre_request, "post_request": post_request}
    if not all(is_ours(cfg.settings[name].get()) for name in made):
        return False
    for name, ours in made.items():
        theirs = getattr(cfg.settings[name].get(), _THEIRS)
        if theirs is None and name == "pre_request" and _logs_debug(worker.log):
            theirs = _gunicorn_settings()[name].get()
        # Not by ``set``, whose validator looks at the signature: in every worker that is a copy of the memory it needs.
        cfg.settings[name].value = _joined(name, ours, theirs)
    return True


def step_aside(worker: Any) -> None:
    """Takes our request hooks out of a worker that has no use for them, and leaves the user's.

    gunicorn's asgi worker serves faster where there are none at all.
    """
    for name in ("pre_request", "post_request"):
        hook = worker.cfg.settings[name].get()
        if is_ours(hook):
            theirs = getattr(hook, _THEIRS)
            worker.cfg.set(name, worker.cfg.settings[name].default if theirs is None else theirs)


@functools.cache
def _gunicorn_settings() -> Mapping[str, Any]:
    return make_settings()


def _logs_debug(log: Any) -> bool:
    """Whether gunicorn's own pre_request hook, a debug line, would be seen."""
    error_log = getattr(log, "error_log", None)
    return error_log is None or bool(error_log.isEnabledFor(logging.DEBUG))


def _joined(name: str, ours: AnyHook, theirs: AnyHook | None) -> AnyHook:
    """One function with the number of parameters that gunicorn asks for."""
    joined = ours if theirs is None else _JOIN[_gunicorn_arity(name)](ours, theirs)
    setattr(joined, _THEIRS, theirs)
    joined.__name__ = name
    joined.__qualname__ = f"gunicorn_prom_hooks.{name}"
    return joined


def _gunicorn_arity(name: str) -> int:
    return int(_gunicorn_settings()[name].get().__code__.co_argcount)


def _join1(ours: AnyHook, theirs: AnyHook) -> AnyHook:
    def hook(a: Any) -> Any:
        ours(a)
        return theirs(a)

    return hook


def _join2(ours: AnyHook, theirs: AnyHook) -> AnyHook:
    def hook(a: Any, b: Any) -> Any:
        ours(a, b)
        return theirs(a, b)

    return hook


def _join3(ours: AnyHook, theirs: AnyHook) -> AnyHook:
    def hook(a: Any, b: Any, c: Any) -> Any:
        ours(a, b, c)
        return theirs(a, b, c)

    return hook


def _join4(ours: AnyHook, theirs: AnyHook) -> AnyHook:
    def hook(a: Any, b: Any, c: Any, d: Any) -> Any:
        ours(a, b, c, d)
        return theirs(a, b, c, d)

    return hook


_JOIN: Final = {1: _join1, 2: _join2, 3: _join3, 4: _join4}
