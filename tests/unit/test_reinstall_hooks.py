"""Repeated ``install()``, and the user's hooks above or below it: our hooks are installed once."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from gunicorn_prom_hooks import hooks, install
from gunicorn_prom_hooks.composition import HookParts, origin_of
from gunicorn_prom_hooks.install import HOOKS
from tests.helpers.fresh_process import call, composition, fresh, loaded, users


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is installed before the test."""
    fresh(monkeypatch)


def test_second_install_calls_the_user_hook_once_with_the_later_settings() -> None:
    """After a second call the user's hook is called once, and the settings are those of the second call."""
    calls: list[Any] = []
    namespace: dict[str, Any] = {"pre_fork": users(calls, "pre_fork")}
    install(namespace, port=1)
    install(namespace, port=2)
    cfg = loaded(namespace)
    call(cfg, "pre_fork")
    assert len(calls) == 1
    assert ports(cfg) == {2}


def test_each_namespace_has_its_own_settings() -> None:
    """With two calls for two namespaces in one process, the hooks of each have their own settings."""
    public: dict[str, Any] = {}
    admin: dict[str, Any] = {}
    install(public, port=1)
    install(admin, port=2)
    assert ports(loaded(public)) == {1}
    assert ports(loaded(admin)) == {2}


def test_hook_defined_below_install_is_composed() -> None:
    """``reinstall_hooks`` finds the hooks that have replaced our hooks; a second call finds none."""
    calls: list[Any] = []
    namespace: dict[str, Any] = {}
    install(namespace)
    for name in HOOKS:
        namespace[name] = users(calls, name)
    cfg = loaded(namespace)
    again = composition()
    for _ in range(2):
        again.reinstall_hooks(cfg)
    hooked = [cfg.settings[name].get() for name in HOOKS]
    again.reinstall_hooks(cfg)
    assert [cfg.settings[name].get() for name in HOOKS] == hooked
    for name in HOOKS:
        calls.clear()
        call(cfg, name)
        assert len(calls) == 1
        assert cfg.settings[name].get() is not namespace[name]


def test_reinstalled_hook_runs_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reinstalled hook runs before the one that had replaced it."""
    order: list[str] = []
    monkeypatch.setitem(hooks.PARTS, "pre_fork", HookParts(lambda server, worker: order.append("ours")))
    cfg = loaded({"pre_fork": lambda server, worker: order.append("users")})
    composition().reinstall_hooks(cfg)
    call(cfg, "pre_fork")
    assert order == ["ours", "users"]


def ports(cfg: Any) -> set[int]:
    """Return the setting ``port`` of each hook."""
    found = set()
    for name in HOOKS:
        origin = origin_of(cfg.settings[name].get())
        assert origin is not None
        assert origin.composition is not None
        found.add(origin.composition.settings.port)
    return found


BY_NAME = """
from gunicorn_prom_hooks import *
from gunicorn_prom_hooks import _state
install(globals())
calls = []
_state.ensure_master = calls.append
nworkers_changed("server", 2, None)
_state.start_worker = calls.append
post_fork("server", "worker")
print(calls)
"""


def test_hooks_imported_by_name_do_not_run_twice() -> None:
    """If the config file has imported our hooks by name, as import * does, ``install`` does not add them again."""
    # In a process of its own: one in which install has been called before is no longer as it was.
    done = subprocess.run([sys.executable, "-c", BY_NAME], check=True, capture_output=True, text=True)
    assert done.stdout == "['server', 'worker']\n"


def test_check_before_each_fork_finds_a_replaced_hook() -> None:
    """A replaced hook is found each time, in this configuration and in that of a reload."""
    cfg, ours = loaded({}), composition()
    ours.reinstall_hooks(cfg)
    assert ours.is_installed(cfg, "post_fork")
    for _ in range(2):
        cfg.set("post_fork", lambda server, worker: None)
        assert not ours.is_installed(cfg, "post_fork")
        ours.reinstall_hooks(cfg)
        assert ours.is_installed(cfg, "post_fork")
    assert not ours.is_installed(loaded({}), "post_fork")


def test_hook_of_another_install_is_replaced_and_an_own_one_is_kept() -> None:
    """In a configuration read again, hooks of this ``install`` stay as they are; those of another are composed anew."""
    first: dict[str, Any] = {}
    install(first, port=1)
    origin = origin_of(first["pre_fork"])
    assert origin is not None
    assert origin.composition is not None
    own = origin.composition
    cfg = loaded(first)
    kept = cfg.settings["pre_fork"].get()
    second: dict[str, Any] = {}
    install(second, port=2)
    cfg.set("post_fork", second["post_fork"])
    own.reinstall_hooks(cfg)
    assert cfg.settings["pre_fork"].get() is kept
    assert ports(cfg) == {1}


class Equal:
    """A hook that is equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, server: Any, worker: Any) -> None:
        """Do nothing."""


def test_hook_that_is_equal_to_everything_is_not_taken_for_an_own_one() -> None:
    """Hooks are compared by identity: the user's ``__eq__`` is not asked."""
    namespace: dict[str, Any] = {}
    install(namespace)
    cfg = loaded(namespace)
    own = composition()
    own.reinstall_hooks(cfg)
    assert own.is_installed(cfg, "post_fork")
    cfg.settings["post_fork"].value = Equal()
    assert not own.is_installed(cfg, "post_fork")
    assert not own.is_installed(loaded(namespace), "post_fork")
