"""Composition of our hooks with the user's. Our hooks never raise; the user's run as they would alone."""

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
"""The value of one of gunicorn's settings, as its ``get`` returns it."""
_MANAGED: Final[WeakSet[Any]] = WeakSet()
"""All hook functions of this package, by identity. A user's function that ``functools.wraps`` one is not in it."""
_ORIGIN: Final = "_gunicorn_prom_hooks_origin"
"""The attribute of these functions with their ``Origin``. Read only from functions in ``_MANAGED``."""


def do_nothing(*args: Any) -> None:
    """Accept any arguments and do nothing."""


class HookParts(NamedTuple):
    """The parts of one of our hooks. Neither may raise.

    Attributes:
        before: runs before the user's hook.
        after: runs when the user's hook has returned.
    """

    before: AnyHook
    after: AnyHook = do_nothing


def run_around(name: str, parts: HookParts, user_hook: AnyHook, *args: Any) -> Any:
    """Run one of our hooks around the user's, and return what the user's returns.

    The user's hook may call our hook of that name. Only the outermost call runs the part after the user's hook.
    """
    parts.before(*args)
    if name in _RUNNING:
        return user_hook(*args)
    result = None
    if user_hook is not do_nothing:
        _RUNNING.add(name)
        try:
            result = user_hook(*args)
        finally:
            _RUNNING.discard(name)
    if parts.after is not do_nothing:
        parts.after(*args)
    return result


_RUNNING: Final[set[str]] = set()
"""Names of the hooks that are running now."""


class Origin(NamedTuple):
    """The origin of one of our hooks.

    Attributes:
        composition: the ``install`` call that made it; None for a hook that is imported by name.
        user_hook: the user's hook that it calls, or None.
    """

    composition: Composition | None
    user_hook: AnyHook | None


def mark_hook(hook: AnyHook, origin: Origin = Origin(None, None)) -> None:  # noqa: B008 - it is immutable
    """Register a function as one of our hooks."""
    setattr(hook, _ORIGIN, origin)
    _MANAGED.add(hook)


def origin_of(hook: object) -> Origin | None:
    """Return the origin of a hook; None if it is not one of our hooks, whatever its attributes are."""
    # The type first: ``__hash__`` and ``__eq__`` of a user's object are not called.
    if type(hook) is FunctionType and hook in _MANAGED:
        origin: Origin = getattr(hook, _ORIGIN)
        return origin
    return None


class Composition:
    """One ``install`` call: its settings, and its hooks composed with the user's.

    Args:
        parts: our hooks by name, in the order in which gunicorn first calls them.
        settings: of this call; not read here.
    """

    def __init__(self, parts: Mapping[str, HookParts], settings: Any) -> None:
        self._parts = parts
        self.settings = settings
        self._settings: Any = None
        self._hook_settings: list[Any] = []
        """The hook settings of the configuration that was last checked."""
        self._installed: list[Any] = []
        """Their values after that check."""
        self._installed_by_name: dict[str, Any] = {}
        """The same values by name."""

    def compose(self, name: str, hook: object) -> AnyHook:
        """Return our hook composed with the one that is set: the user's, another of our hooks, or None.

        Raises:
            TypeError: gunicorn's validator refuses the user's hook.
        """
        origin = origin_of(hook)
        user_hook = _validated_user_hook(name, hook) if origin is None else origin.user_hook
        parts = self._parts[name]
        if name in REQUEST_HOOKS:
            hook = _REQUEST_HOOK_MAKERS[name](parts.before, user_hook or do_nothing)
        else:
            hook = _FIXED_ARITY[_gunicorn_arity(name)](
                functools.partial(run_around, name, parts, user_hook or do_nothing)
            )
        return self._mark(name, hook, user_hook)

    def reinstall_hooks(self, cfg: Any) -> None:
        """Compose our hooks again with what has replaced them in gunicorn's loaded configuration."""
        # As a rule nothing has. This check runs before and after each fork, which copies all memory that is touched.
        # So it runs in C, and reads the settings themselves.
        if cfg.settings is self._settings and all(map(is_, map(_VALUE, self._hook_settings), self._installed)):
            return
        settings = self._settings = cfg.settings
        for name in self._parts:
            hook = settings[name].get()
            origin = origin_of(hook)
            if origin is None or origin.composition is not self:
                cfg.set(name, self.compose(name, hook))
        self._hook_settings = [settings[name] for name in self._parts]
        self._installed = list(map(_VALUE, self._hook_settings))
        self._installed_by_name = dict(zip(self._parts, self._installed, strict=True))

    def is_installed(self, cfg: Any, name: str) -> bool:
        """Return whether a hook is still the one that ``reinstall_hooks`` has set."""
        return cfg.settings is self._settings and cfg.settings[name].value is self._installed_by_name[name]

    def install_request_hooks(self, worker: Any, pre_request: AnyHook, post_request: AnyHook) -> None:
        """Install the request hooks made for this worker, in front of the user's, whatever is set now."""
        for name, own_hook in zip(REQUEST_HOOKS, (pre_request, post_request), strict=True):
            user_hook = _user_hook(worker.cfg, name)
            if user_hook is None and name == "pre_request" and _logs_debug(worker.log):
                user_hook = _gunicorn_default(name)
            hook = own_hook if user_hook is None else _REQUEST_HOOK_MAKERS[name](own_hook, user_hook)
            # Without ``set``: its validator reads the signature, and writes to memory still shared with the master.
            worker.cfg.settings[name].value = self._mark(name, hook, user_hook)

    def _mark(self, name: str, hook: AnyHook, user_hook: AnyHook | None) -> AnyHook:
        mark_hook(hook, Origin(self, user_hook))
        hook.__name__ = name
        hook.__qualname__ = f"gunicorn_prom_hooks.{name}"
        return hook


def origins(cfg: Any) -> list[Origin]:
    """Return the origins of our hooks in gunicorn's loaded configuration."""
    found = (origin_of(setting.get()) for setting in cfg.settings.values())
    return [origin for origin in found if origin is not None]


def remove_request_hooks(worker: Any) -> None:
    """Remove our request hooks from a worker that does not need them; the user's stay.

    gunicorn's asgi worker is faster without any request hook.
    """
    for name in REQUEST_HOOKS:
        user_hook = _user_hook(worker.cfg, name)
        worker.cfg.set(name, worker.cfg.settings[name].default if user_hook is None else user_hook)


def _user_hook(cfg: Any, name: str) -> AnyHook | None:
    """Return the user's hook of that name; None if there is none."""
    hook = cfg.settings[name].get()
    origin = origin_of(hook)
    return _validated_user_hook(name, hook) if origin is None else origin.user_hook


def _validated_user_hook(name: str, hook: object) -> AnyHook | None:
    """Return a user's hook as gunicorn calls it; None for gunicorn's default.

    The validator also resolves "module.function", and extends a post_request of two or three parameters to four. It
    reads the signature of the innermost function behind a decorator. That may be our hook, which takes four, while the
    decorator takes as many as the user's hook took that our hook has replaced.
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
    """Return the number of arguments that a callable takes, whatever it decorates; None if it takes any number."""
    try:
        kinds = [parameter.kind for parameter in inspect.signature(hook, follow_wrapped=False).parameters.values()]
    except (TypeError, ValueError):  # it has no signature
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
    """Return whether gunicorn's default pre_request hook, a debug line, would be logged."""
    error_log = getattr(log, "error_log", None)
    return error_log is None or bool(error_log.isEnabledFor(logging.DEBUG))


def _make_pre_request(own_hook: AnyHook, user_hook: AnyHook) -> AnyHook:
    def hook(worker: Any, req: Any) -> Any:
        own_hook(worker, req)
        return user_hook(worker, req)

    return hook


def _make_post_request(own_hook: AnyHook, user_hook: AnyHook) -> AnyHook:
    # A user's hook that calls this one by name may pass as few arguments as it took alone.
    def hook(worker: Any, req: Any, environ: Any = None, resp: Any = None) -> Any:
        own_hook(worker, req, environ, resp)
        return user_hook(worker, req, environ, resp)

    return hook


_FIXED_ARITY: Final[Mapping[int, Callable[[AnyHook], AnyHook]]] = {
    1: lambda call: lambda a: call(a),  # noqa: PLW0108
    2: lambda call: lambda a, b: call(a, b),  # noqa: PLW0108
    3: lambda call: lambda a, b, c: call(a, b, c),  # noqa: PLW0108
}
"""Makers of a function with this number of parameters: gunicorn checks the number."""
_REQUEST_HOOK_MAKERS: Final = {"pre_request": _make_pre_request, "post_request": _make_post_request}
