"""``install()``: our hooks in a gunicorn configuration, composed with the user's."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any

import pytest
from gunicorn.config import Config

import gunicorn_prom_hooks
from gunicorn_prom_hooks import InvalidSetting, _state, hooks, install
from gunicorn_prom_hooks.composition import HookParts
from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.install import HOOKS
from tests.helpers.fresh_process import ARITY, call, fresh, loaded, users


@pytest.fixture(autouse=True)
def errors(monkeypatch: pytest.MonkeyPatch) -> ErrorReporter:
    """Nothing is installed before the test."""
    return fresh(monkeypatch)


def test_all_hooks_are_installed() -> None:
    """A configuration without hooks gets all hooks of this package, and gunicorn accepts each of them."""
    namespace: dict[str, Any] = {"bind": "127.0.0.1:8000"}
    install(namespace)
    assert namespace.keys() == {"bind", *HOOKS}
    cfg = loaded(namespace)
    for name in HOOKS:
        assert len(inspect.signature(cfg.settings[name].get()).parameters) == ARITY[name]
        call(cfg, name)
        assert getattr(gunicorn_prom_hooks, name) is getattr(hooks, name)


@pytest.mark.parametrize("name", HOOKS)
def test_package_hooks_run_around_user_hooks_with_the_same_arguments(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each name both hooks run, our parts around the user's, with the same arguments."""
    calls: list[Any] = []
    namespace = {name: users(calls, name)}
    order: list[str] = []

    def part(said: str) -> Any:
        def ours(*args: Any) -> None:
            order.append(said)
            calls.append(args)

        return ours

    monkeypatch.setitem(hooks.PARTS, name, HookParts(part("before"), part("after")))
    user_hook = namespace[name]
    parameters = ", ".join("abcd"[: ARITY[name]])
    namespace[name] = eval(
        f"lambda {parameters}: (order.append('user_hook'), user_hook({parameters}))",
        {"order": order, "user_hook": user_hook},
    )
    install(namespace)
    call(loaded(namespace), name)
    is_request_hook = name in ("pre_request", "post_request")
    assert order == ["before", "user_hook"] + ["after"] * (not is_request_hook)
    assert len(calls) == len(order)
    assert len(set(calls)) == 1


@pytest.mark.parametrize("name", HOOKS)
def test_user_hook_runs_although_the_package_hook_fails(
    name: str, errors: ErrorReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure in one of our hooks is not raised, is counted, and the user's hook runs."""

    def broken(*args: Any) -> Any:
        raise RuntimeError("a bug of this package")

    for entry in ("ensure_master", "start_worker", "reinstall_hooks", "worker", "master"):
        monkeypatch.setattr(_state, entry, broken)
    calls: list[Any] = []
    namespace = {name: users(calls, name)}
    install(namespace)
    call(loaded(namespace), name)
    assert len(calls) == 1
    assert errors.counts.keys() - {"log"} == (set() if name in ("pre_request", "post_request") else {name})


@pytest.mark.parametrize("name", HOOKS)
def test_exception_of_the_user_hook_is_raised(name: str) -> None:
    """What the user's hook raises reaches gunicorn."""
    parameters = ", ".join("abcd"[: ARITY[name]])
    namespace = {name: eval(f"lambda {parameters}: 1 / 0")}
    install(namespace)
    cfg = loaded(namespace)
    with pytest.raises(ZeroDivisionError):
        call(cfg, name)


@pytest.mark.parametrize("arity", [2, 3, 4])
def test_post_request_may_have_two_three_or_four_parameters(arity: int) -> None:
    """The user's post_request gets as many arguments as it has parameters."""
    calls: list[Any] = []
    parameters = ", ".join("abcd"[:arity])
    namespace = {"post_request": eval(f"lambda {parameters}: calls.append(({parameters},))", {"calls": calls})}
    install(namespace)
    loaded(namespace).post_request("worker", "req", "environ", "resp")
    assert calls == [("worker", "req", "environ", "resp")[:arity]]


def test_hook_given_as_a_dotted_string_is_composed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that the user names as module.function is composed like any other."""
    calls: list[Any] = []
    module: Any = ModuleType("users_own_hooks")
    module.fork = lambda server, worker: calls.append((server, worker))
    monkeypatch.setitem(sys.modules, "users_own_hooks", module)
    namespace: dict[str, Any] = {"pre_fork": "users_own_hooks.fork"}
    install(namespace)
    call(loaded(namespace), "pre_fork")
    assert len(calls) == 1


@pytest.mark.parametrize("wrong", [7, "nowhere", "no.such.module", lambda server: None])
def test_invalid_hook_is_left_for_gunicorn_to_refuse(wrong: object) -> None:
    """``install`` leaves an invalid hook, installs the others, and gunicorn reports the invalid one."""
    namespace: dict[str, Any] = {"pre_fork": wrong}
    install(namespace)
    assert namespace["pre_fork"] is wrong
    assert callable(namespace["post_fork"])
    with pytest.raises(TypeError):
        loaded(namespace)


def test_options_of_a_custom_application_take_the_hooks() -> None:
    """The options of a custom application take the hooks as a config file's globals do."""
    options: dict[str, Any] = {"bind": "127.0.0.1:0", "workers": 2, "post_request": lambda worker, req: None}
    install(options, worker_label="slot")
    cfg = Config()
    for name, value in options.items():
        cfg.set(name, value)
    assert cfg.workers == 2
    cfg.post_request("worker", "req", "environ", "resp")


def test_invalid_setting_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """At start InvalidSetting is raised, for a keyword or an environment variable, and nothing is installed."""
    namespace: dict[str, Any] = {}
    with pytest.raises(InvalidSetting, match="port"):
        install(namespace, port="x")
    monkeypatch.setenv("PROMETHEUS_METRICS_PORT", "y")
    with pytest.raises(InvalidSetting, match="PROMETHEUS_METRICS_PORT"):
        install(namespace)
    assert namespace == {}
