"""install() once, twice, above the user's hooks or below: ours are there once."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from unit_fresh import call, fresh, loaded, users

from gunicorn_prom_hooks import hooks, install, runtime
from gunicorn_prom_hooks.compose import HOOKS, put_back


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is installed before the test."""
    fresh(monkeypatch)


def test_installing_twice_wraps_once() -> None:
    """A second install changes no hook, and takes the settings of the last call."""
    calls: list[Any] = []
    namespace: dict[str, Any] = {"pre_fork": users(calls, "pre_fork")}
    install(namespace, port=1)
    first = dict(namespace)
    install(namespace, port=2)
    assert namespace == first
    call(loaded(namespace), "pre_fork")
    assert len(calls) == 1
    assert runtime._configured is not None
    assert runtime._configured.port == 2


def test_a_hook_defined_below_is_chained_again() -> None:
    """put_back finds the hooks that have replaced ours in the loaded configuration; a second time it finds none."""
    calls: list[Any] = []
    namespace: dict[str, Any] = {}
    install(namespace)
    for name in HOOKS:
        namespace[name] = users(calls, name)
    cfg = loaded(namespace)
    for _ in range(2):
        put_back(cfg)
    hooked = [cfg.settings[name].get() for name in HOOKS]
    put_back(cfg)
    assert [cfg.settings[name].get() for name in HOOKS] == hooked
    for name in HOOKS:
        calls.clear()
        call(cfg, name)
        assert len(calls) == 1
        assert cfg.settings[name].get() is not namespace[name]


def test_ours_put_back_runs_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook of ours that was put back runs before the one that had replaced it."""
    order: list[str] = []
    monkeypatch.setattr(hooks, "pre_fork", lambda server, worker: order.append("ours"))
    cfg = loaded({"pre_fork": lambda server, worker: order.append("users")})
    put_back(cfg)
    call(cfg, "pre_fork")
    assert order == ["ours", "users"]


BY_NAME = """
from gunicorn_prom_hooks import *
from gunicorn_prom_hooks import runtime
install(globals())
calls = []
runtime.in_master = calls.append
nworkers_changed("server", 2, None)
runtime.begin_worker = calls.append
post_fork("server", "worker")
print(calls)
"""


def test_hooks_imported_by_name_do_not_run_twice() -> None:
    """Where the config file has imported our hooks by name, as import * does, install adds none a second time."""
    # In a process of its own: one in which install has been called before is no longer as it was.
    done = subprocess.run([sys.executable, "-c", BY_NAME], check=True, capture_output=True, text=True)
    assert done.stdout == "['server', 'worker']\n"
