"""Nothing installed: the package as it is right after the import, and configurations to install it into."""

from __future__ import annotations

from typing import Any

import pytest
from gunicorn.config import Config

from gunicorn_prom_hooks import _state, hooks
from gunicorn_prom_hooks.composition import Composition
from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.install import HOOKS
from gunicorn_prom_hooks.settings import load

ARITY = {
    **dict.fromkeys(("on_starting", "when_ready", "on_reload", "on_exit", "post_worker_init"), 1),
    **dict.fromkeys(("worker_int", "worker_abort"), 1),
    **dict.fromkeys(("pre_fork", "post_fork", "pre_request", "worker_exit", "child_exit"), 2),
    "nworkers_changed": 3,
    "post_request": 4,
}


def fresh(monkeypatch: pytest.MonkeyPatch) -> ErrorReporter:
    """Reset the state of the package for the rest of the test. Return its reporter of failures."""
    errors = ErrorReporter()
    monkeypatch.setattr(_state, "errors", errors)
    for name in (
        "_latest",
        "_composition",
        "_missing_hooks",
        "_master",
        "_worker",
        "_prepared",
        "request_hooks_by_name",
    ):
        monkeypatch.setattr(_state, name, None)
    monkeypatch.setattr(_state, "_reload_due", False)
    return errors


def composition(**settings: Any) -> Composition:
    """Return the composition that an ``install`` call with these settings makes."""
    return Composition(hooks.PARTS, load(settings))


def loaded(namespace: dict[str, Any]) -> Config:
    """Return gunicorn's configuration after it has read a config file with these names."""
    cfg = Config()
    for name in HOOKS:
        if name in namespace:
            cfg.set(name, namespace[name])
    return cfg


def call(cfg: Config, name: str) -> Any:
    """Call the configured hook with as many arguments as gunicorn passes. Return its result."""
    return cfg.settings[name].get()(*(object() for _ in range(ARITY[name])))


def users(calls: list[Any], name: str) -> Any:
    """Return a user's hook that appends its arguments to ``calls``."""
    parameters = ", ".join("abcd"[: ARITY[name]])
    return eval(f"lambda {parameters}: calls.append(({parameters},))", {"calls": calls})
