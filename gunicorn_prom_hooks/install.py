"""``install()``, which adds the hooks to a gunicorn configuration."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Final

from . import _state, hooks
from .composition import Composition

HOOKS: Final = tuple(hooks.PARTS)
"""The names of the hooks that ``install`` sets."""


def install(namespace: MutableMapping[str, Any], /, **settings: Any) -> None:
    """Add the hooks to a gunicorn configuration.

    It opens no file and no port, and starts no thread. Hooks that the user defines above or below the call run after
    our hook, with the arguments that gunicorn passes. The settings belong to the hooks of this namespace. After a
    second call with the same namespace, the settings of that call are used.

    Args:
        namespace: ``globals()`` of the config file, or the options dict of a custom ``BaseApplication``.
        settings: see ``Settings``. A keyword overrides the environment, which overrides the default.

    Raises:
        InvalidSetting: when gunicorn starts. At a reload the invalid setting is logged, and the previous settings stay.
    """
    composition = Composition(hooks.PARTS, _state.load_settings(settings))
    _state.register_install(composition)
    for name in HOOKS:
        try:
            namespace[name] = composition.compose(name, namespace.get(name))
        except Exception:  # noqa: BLE001, S112 - gunicorn refuses the value itself, with a message
            continue
