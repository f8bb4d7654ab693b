"""install(): the hooks composed into a gunicorn configuration."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Final

from . import hooks, runtime
from .chaining import chain, is_ours

HOOKS: Final = (
    "nworkers_changed",
    "on_starting",
    "when_ready",
    "on_reload",
    "pre_fork",
    "post_fork",
    "post_worker_init",
    "pre_request",
    "post_request",
    "worker_int",
    "worker_abort",
    "worker_exit",
    "child_exit",
    "on_exit",
)
"""Those of gunicorn's hooks that we have one for."""


def install(namespace: MutableMapping[str, Any], /, **settings: Any) -> None:
    """Adds the hooks to a gunicorn configuration.

    It does nothing but that: no file, no port, no thread before gunicorn starts. Hooks that the user defines, above or
    below the call, run after ours with what gunicorn gives them. Calling it twice is calling it once, with the
    settings of the last call.

    Args:
        namespace: ``globals()`` of the config file, or the options dict of a custom ``BaseApplication``.
        settings: see ``Settings``. A keyword beats the environment, which beats the default.

    Raises:
        InvalidSetting: when gunicorn starts. At a reload the bad setting is logged and the old ones stay.
    """
    runtime.configure(settings, put_back)
    for name in HOOKS:
        theirs = namespace.get(name)
        if is_ours(theirs):
            continue
        try:
            namespace[name] = chain(name, getattr(hooks, name), theirs)
        except Exception:  # noqa: BLE001, S112 - what is no hook is left as it is: gunicorn refuses it, and says why
            continue


def put_back(cfg: Any) -> None:
    """Chains our hooks again where a hook defined below the ``install`` line has replaced them."""
    for name in HOOKS:
        theirs = cfg.settings[name].get()
        if not is_ours(theirs):
            cfg.set(name, chain(name, getattr(hooks, name), theirs))
