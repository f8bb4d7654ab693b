"""Hooks composed of two: ours, which never raises, and the user's, which runs as it would without ours."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from operator import attrgetter, is_
from types import FunctionType
from typing import Any, Final, NamedTuple
from weakref import WeakSet

from gunicorn.config import make_settings

AnyHook = Callable[..., Any]
REQUEST_HOOKS: Final = ("pre_request", "post_request")

_VALUE: Final = attrgetter("value")
"""Of a setting of gunicorn's, as its ``get`` returns it."""
_OURS: Final[WeakSet[Any]] = WeakSet()
"""Every hook function of this package. Membership is identity: what ``functools.wraps`` makes of one is not in here."""
_ORIGIN: Final = "_gunicorn_prom_hooks_origin"
"""Attribute of these functions: their ``Origin``. To be read only of what is in ``_OURS``."""


def do_nothing(*args: Any) -> None:
    """Do nothing."""


class Parts(NamedTuple):
    """A hook of ours, split around the user's. Neither part may raise.

    Attributes:
        before: runs first.
        after: runs when the user's hook has returned.
    """

    before: AnyHook
    after: AnyHook = do_nothing


def run(name: str, parts: Parts, theirs: AnyHook, *args: Any) -> Any:
    """Run a hook of ours around the user's, and return what that returns.

    The user's may call another hook of ours of that name. What comes after the user's is left to the outermost one.
    """
    parts.before(*args)
    if name in _RUNNING:
        return theirs(*args)
    _RUNNING.add(name)
    try:
        result = theirs(*args)
    finally:
        _RUNNING.discard(name)
    parts.after(*args)
    return result


_RUNNING: Final[set[str]] = set()
"""Names of the hooks that are running."""


class Origin(NamedTuple):
    """Where a hook of ours comes from.

    Attributes:
        composition: the ``install`` call that made it; None for the hooks that are imported by name.
        theirs: the user's hook in it, or None.
    """

    composition: Composition | None
    theirs: AnyHook | None


def mark_hook(hook: AnyHook, origin: Origin = Origin(None, None)) -> None:  # noqa: B008 - it is immutable
    """Register a function as one of our hooks."""
    setattr(hook, _ORIGIN, origin)
    _OURS.add(hook)


def origin_of(hook: object) -> Origin | None:
    """Return where a hook comes from; None if it is not one of ours, whatever its attributes say."""
    # Its type first: no method of the user's object is asked for a hash or for equality.
    if type(hook) is FunctionType and hook in _OURS:
        origin: Origin = getattr(hook, _ORIGIN)
        return origin
    return None


class Composition:
    """One ``install`` call: its settings, and how its hooks are composed with the user's.

    Args:
        parts: our hooks by name, in the order in which gunicorn calls them first.
        settings: of this call; opaque here.
    """

    def __init__(self, parts: Mapping[str, Parts], settings: Any) -> None:
        self._parts = parts
        self.settings = settings
        self._settings: Any = None
        self._watched: list[Any] = []
        """Of the configuration that was last looked at, gunicorn's settings that are hooks of ours."""
        self._placed: list[Any] = []
        """What they were then."""
        self._kept: dict[str, Any] = {}
        """The same, by name."""

    def compose(self, name: str, hook: object) -> AnyHook:
        """Return our hook composed with what is set for that name: the user's hook, one of ours, or None.

        Raises:
            TypeError: the user's is not a hook; gunicorn's own validator says so.
        """
        origin = origin_of(hook)
        theirs = _validated(name, hook) if origin is None else origin.theirs
        parts = self._parts[name]
        if name in REQUEST_HOOKS:
            hook = _HOT[name](parts.before, theirs or do_nothing)
        else:
            hook = _FIXED[_gunicorn_arity(name)](functools.partial(run, name, parts, theirs or do_nothing))
        return self._mark(name, hook, theirs)

    def reinstall_hooks(self, cfg: Any) -> None:
        """Compose our hooks again with what has replaced them in gunicorn's loaded configuration."""
        # As a rule nothing has. This is asked before and after each fork, when whatever is touched is copied: so it is
        # asked in C, of the settings themselves.
        if cfg.settings is self._settings and all(map(is_, map(_VALUE, self._watched), self._placed)):
            return
        settings = self._settings = cfg.settings
        for name in self._parts:
            hook = settings[name].get()
            origin = origin_of(hook)
            if origin is None or origin.composition is not self:
                cfg.set(name, self.compose(name, hook))
        self._watched = [settings[name] for name in self._parts]
        self._placed = list(map(_VALUE, self._watched))
        self._kept = dict(zip(self._parts, self._placed, strict=True))

    def is_in_place(self, cfg: Any, name: str) -> bool:
        """Return whether what stands there under this name is what ``put_back`` has left there."""
        return cfg.settings is self._settings and cfg.settings[name].value is self._kept[name]

    def install_request_hooks(self, worker: Any, pre_request: AnyHook, post_request: AnyHook) -> None:
        """Put the request hooks made for this worker in front of the user's, whatever stands there now."""
        for name, ours in zip(REQUEST_HOOKS, (pre_request, post_request), strict=True):
            theirs = _behind(worker.cfg, name)
            if theirs is None and name == "pre_request" and _logs_debug(worker.log):
                theirs = _gunicorn_default(name)
            hook = ours if theirs is None else _HOT[name](ours, theirs)
            # Not by ``set``: its validator looks at the signature, and writes to memory that the worker shares so far.
            worker.cfg.settings[name].value = self._mark(name, hook, theirs)

    def _mark(self, name: str, hook: AnyHook, theirs: AnyHook | None) -> AnyHook:
        mark_hook(hook, Origin(self, theirs))
        hook.__name__ = name
        hook.__qualname__ = f"gunicorn_prom_hooks.{name}"
        return hook


def origins(cfg: Any) -> list[Origin]:
    """Return where those hooks in gunicorn's loaded configuration come from that are ours."""
    found = (origin_of(setting.get()) for setting in cfg.settings.values())
    return [origin for origin in found if origin is not None]


def remove_request_hooks(worker: Any) -> None:
    """Take our request hooks out of a worker that has no use for them, and leave the user's.

    gunicorn's asgi worker serves faster where there are none at all.
    """
    for name in REQUEST_HOOKS:
        theirs = _behind(worker.cfg, name)
        worker.cfg.set(name, worker.cfg.settings[name].default if theirs is None else theirs)


def _behind(cfg: Any, name: str) -> AnyHook | None:
    """Return the user's hook of that name, None if there is none."""
    hook = cfg.settings[name].get()
    origin = origin_of(hook)
    return _validated(name, hook) if origin is None else origin.theirs


def _validated(name: str, hook: object) -> AnyHook | None:
    """Return a hook of the user's as gunicorn calls it; None for gunicorn's own.

    The validator also resolves "module.function", and makes four parameters of post_request's two or three. It goes by
    the innermost function behind a decorator. The decorated one may take fewer: the user's hook by that name did, until
    ours, which takes four, stood in its place.
    """
    if hook is None or hook is _gunicorn_default(name):
        return None
    valid: AnyHook = _gunicorn_settings()[name].validator(hook)
    if name == "post_request" and valid is hook:
        own = _own_arity(valid)
        if own in (2, 3):
            return lambda worker, req, environ, resp: valid(*(worker, req, environ)[:own])
    return valid


def _own_arity(hook: AnyHook) -> int | None:
    """Return how many arguments a callable takes itself, whatever it decorates; None if any number."""
    try:
        kinds = [parameter.kind for parameter in inspect.signature(hook, follow_wrapped=False).parameters.values()]
    except (TypeError, ValueError):  # one without a signature
        return None
    return None if inspect.Parameter.VAR_POSITIONAL in kinds else sum(kind in _POSITIONAL for kind in kinds)


_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@functools.cache
def _gunicorn_settings() -> Mapping[str, Any]:
    return make_settings()


def _gunicorn_default(name: str) -> AnyHook:
    default: AnyHook = _gunicorn_settings()[name].get()
    return default


def _gunicorn_arity(name: str) -> int:
    return int(_gunicorn_settings()[name].get().__code__.co_argcount)


def _logs_debug(log: Any) -> bool:
    """Return whether gunicorn's own pre_request hook, a debug line, would be seen."""
    error_log = getattr(log, "error_log", None)
    return error_log is None or bool(error_log.isEnabledFor(logging.DEBUG))


def _hot_pre_request(ours: AnyHook, theirs: AnyHook) -> AnyHook:
    def hook(worker: Any, req: Any) -> Any:
        ours(worker, req)
        return theirs(worker, req)

    return hook


def _hot_post_request(ours: AnyHook, theirs: AnyHook) -> AnyHook:
    # A hook of the user's that calls this one by name may give it as little as it took before ours was in it.
    def hook(worker: Any, req: Any, environ: Any = None, resp: Any = None) -> Any:
        ours(worker, req, environ, resp)
        return theirs(worker, req, environ, resp)

    return hook


_FIXED: Final[Mapping[int, Callable[[AnyHook], AnyHook]]] = {
    1: lambda call: lambda a: call(a),  # noqa: PLW0108
    2: lambda call: lambda a, b: call(a, b),  # noqa: PLW0108
    3: lambda call: lambda a, b, c: call(a, b, c),  # noqa: PLW0108
}
"""Make a function with so many parameters: gunicorn counts them, and takes no others."""
_HOT: Final = {"pre_request": _hot_pre_request, "post_request": _hot_post_request}
