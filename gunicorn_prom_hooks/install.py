"""install(): the hooks composed into a gunicorn configuration."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Final

from . import _state, hooks
from .composition import Composition

HOOKS: Final = tuple(hooks.PARTS)
"""Those of gunicorn's hooks that we have one for."""


def install(namespace: MutableMapping[str, Any], /, **settings: Any) -> None:
    """Add the hooks to a gunicorn configuration.

    It does nothing but that: no file, no port, no thread before gunicorn starts. Hooks that the user defines, above or
    below the call, run after ours with what gunicorn gives them. The settings belong to the hooks of this namespace.
    Calling it twice on one namespace is calling it once, with the settings of the last call.

    Args:
        namespace: ``globals()`` of the config file, or the options dict of a custom ``BaseApplication``.
        settings: see ``Settings``. A keyword beats the environment, which beats the default.

    Raises:
        InvalidSetting: when gunicorn starts. At a reload the bad setting is logged and the old ones stay.
    """
    composition = Composition(hooks.PARTS, _state.load_settings(settings))
    _state.installed(composition)
    for name in HOOKS:
        try:
            namespace[name] = composition.compose(name, namespace.get(name))
        except Exception:  # noqa: BLE001, S112 - what is no hook is left as it is: gunicorn refuses it, and says why
            continue
