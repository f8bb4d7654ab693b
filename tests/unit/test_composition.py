"""Composition of request hooks for one worker, as gunicorn calls them."""

from __future__ import annotations

import functools
import logging
import types
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger

from gunicorn_prom_hooks import install
from gunicorn_prom_hooks.composition import HookParts, origin_of, origins, remove_request_hooks, run_around
from gunicorn_prom_hooks.install import HOOKS
from tests.helpers.fresh_process import ARITY, composition, fresh, loaded, users


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is installed before the test."""
    fresh(monkeypatch)


def new_worker(namespace: dict[str, Any], loglevel: str = "info") -> Any:
    """Return the part of a worker that the composition reads: its configuration and its log."""
    cfg = Config()
    cfg.set("loglevel", loglevel)
    for name in ("pre_request", "post_request"):
        if name in namespace:
            cfg.set(name, namespace[name])
    return SimpleNamespace(cfg=cfg, log=Logger(cfg))


def new_hooks(calls: list[str]) -> tuple[Any, Any]:
    """Return request hooks as they are made for a worker."""

    def pre_request(worker: Any, req: Any) -> None:
        calls.append("our pre_request")

    def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
        calls.append("our post_request")

    return pre_request, post_request


def install_request_hooks(worker: Any, calls: list[str]) -> tuple[Any, Any]:
    """Install new request hooks in a worker, and return them."""
    hooks = new_hooks(calls)
    install_of(worker).install_request_hooks(worker, *hooks)
    return hooks


def install_of(worker: Any) -> Any:
    """Return the install call of the worker's hooks; a new one if there is none."""
    origin = origin_of(worker.cfg.pre_request)
    return composition() if origin is None else origin.composition


REQUEST = SimpleNamespace(method="GET", path="/x")


def serve(worker: Any) -> None:
    """Call what gunicorn calls around a request."""
    worker.cfg.pre_request(worker, REQUEST)
    worker.cfg.post_request(worker, REQUEST, {}, None)


def test_package_hooks_without_user_hooks_are_called_directly() -> None:
    """If the user has no request hooks, gunicorn calls our hooks with nothing in between."""
    calls: list[str] = []
    namespace: dict[str, Any] = {}
    install(namespace)
    worker = new_worker(namespace)
    hooks = install_request_hooks(worker, calls)
    assert (worker.cfg.pre_request, worker.cfg.post_request) == hooks
    serve(worker)
    assert calls == ["our pre_request", "our post_request"]


def test_user_request_hooks_run_after_those_of_the_package() -> None:
    """The user's request hooks, of any arity, run after the ones made for the worker."""
    calls: list[str] = []
    namespace: dict[str, Any] = {
        "pre_request": lambda worker, req: calls.append("users pre_request"),
        "post_request": lambda worker, req: calls.append("users post_request"),
    }
    install(namespace)
    worker = new_worker(namespace)
    install_request_hooks(worker, calls)
    serve(worker)
    assert calls == ["our pre_request", "users pre_request", "our post_request", "users post_request"]


@pytest.mark.parametrize(("loglevel", "lines"), [("debug", ["GET /x"]), ("info", [])])
def test_gunicorns_debug_line_is_logged_at_level_debug(loglevel: str, lines: list[str]) -> None:
    """If the user has no pre_request, gunicorn's default runs at level debug, and is not called at others."""
    namespace: dict[str, Any] = {}
    install(namespace)
    worker = new_worker(namespace, loglevel)
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign,assignment]
    worker.log.error_log.addHandler(handler)
    try:
        install_request_hooks(worker, [])
        serve(worker)
    finally:
        worker.log.error_log.removeHandler(handler)
    assert [record.getMessage() for record in records] == lines


def audited(hook: Any, calls: list[str]) -> Any:
    """Decorate a hook with ``functools.wraps``, as a user may."""

    @functools.wraps(hook)
    def wrapper(*args: Any) -> Any:
        calls.append("decorator")
        return hook(*args)

    return wrapper


class Stub:
    """A callable that has any attribute one asks for, as a Mock or a remote object has."""

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub(self.calls)

    def __call__(self, worker: Any, req: Any) -> None:
        self.calls.append("stub")


class Unhashable(Stub):
    """One that has no hash."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other


@pytest.mark.parametrize(
    "make",
    [
        audited,
        lambda ours, calls: audited(audited(ours, calls), calls),
        lambda ours, calls: functools.partial(ours),
        lambda ours, calls: Stub(calls),
        lambda ours, calls: Unhashable(calls),
        lambda ours, calls: functools.update_wrapper(Stub(calls), ours),
        lambda ours, calls: types.MethodType(lambda self, worker, req: ours(worker, req), object()),
    ],
)
def test_foreign_hook_with_copied_attributes_is_treated_as_a_user_hook(make: Any) -> None:
    """Whatever its attributes are, a hook that this package did not make is called after our hook.

    Hooks that it calls, our hooks included, are called as they would be without us.
    """
    calls: list[str] = []
    namespace: dict[str, Any] = {"pre_request": lambda worker, req: calls.append("base")}
    install(namespace)
    hook = make(namespace["pre_request"], calls)
    assert origin_of(hook) is None
    hook("worker", REQUEST)
    alone = calls[:]
    assert alone
    worker = new_worker(namespace)
    for set_hook in (lambda: worker.cfg.set("pre_request", hook), lambda: None):
        set_hook()
        calls.clear()
        install_request_hooks(worker, calls)
        worker.cfg.pre_request(worker, REQUEST)
        assert calls == ["our pre_request", *alone]


def test_composed_hook_imported_into_another_namespace_is_composed_again() -> None:
    """Another namespace's ``install`` composes such a hook again, around the same user hook."""
    calls: list[str] = []
    base: dict[str, Any] = {"pre_request": lambda worker, req: calls.append("base")}
    install(base, port=1)
    child = dict(base)
    install(child, port=2)
    origin = origin_of(child["pre_request"])
    assert origin is not None
    assert origin.composition is not None
    assert origin.composition.settings.port == 2
    child["pre_request"]("worker", REQUEST)
    assert calls == ["base"]


@pytest.mark.parametrize("parameters", ["worker, req", "worker, req, environ", "worker, req, environ, resp"])
@pytest.mark.parametrize("where", ["below", "above"])
def test_decorated_post_request_gets_as_many_arguments_as_its_signature_has(parameters: str, where: str) -> None:
    """A decorated post_request gets as many arguments as its own signature has, and may pass as many to our hook."""
    calls: list[Any] = []
    base: dict[str, Any] = {
        "post_request": eval(f"lambda {parameters}: calls.append(('base', {parameters}))", {"calls": calls})
    }
    if where == "above":
        install(base)
    user_hook = base["post_request"]
    namespace = {"calls": calls, "user_hook": user_hook}
    wrapper = eval(f"lambda {parameters}: (calls.append(('child', {parameters})), user_hook({parameters}))", namespace)
    child: dict[str, Any] = {"post_request": functools.wraps(user_hook)(wrapper)}
    install(child)
    worker = new_worker(child)
    for hook in (child["post_request"], worker.cfg.post_request):
        calls.clear()
        hook("worker", "req", "environ", "resp")
        given = ("worker", "req", "environ", "resp")[: len(parameters.split())]
        assert calls == [("child", *given), ("base", *given)]


@pytest.mark.parametrize("name", HOOKS)
def test_result_of_the_user_hook_is_returned(name: str) -> None:
    """A user's hook that calls the composed one gets the result of the user's hook in it."""
    parameters = ", ".join("abcd"[: ARITY[name]])
    namespace: dict[str, Any] = {name: eval(f"lambda {parameters}: 'user_hook'")}
    install(namespace)
    assert namespace[name](*(SimpleNamespace(log=None, cfg=None) for _ in range(ARITY[name]))) == "user_hook"


@pytest.mark.parametrize("name", HOOKS)
def test_gunicorns_default_hook_is_not_a_user_hook(name: str) -> None:
    """If our hook is missing from a loaded configuration, gunicorn's default is not called after our hook."""
    cfg = Config()
    composition().reinstall_hooks(cfg)
    origin = origin_of(cfg.settings[name].get())
    assert origin is not None
    assert origin.user_hook is None


def test_remove_request_hooks_keeps_user_hooks() -> None:
    """The user's hooks, decorated or not, stay alone; otherwise gunicorn's defaults."""
    calls: list[Any] = []
    user_hook = users(calls, "pre_request")
    for namespace, expected in (({}, Config().pre_request), ({"pre_request": user_hook}, user_hook)):
        install(namespace)
        worker = new_worker(namespace)
        remove_request_hooks(worker)
        assert worker.cfg.pre_request is expected
    decorated = audited(user_hook, calls)
    worker.cfg.set("pre_request", decorated)
    remove_request_hooks(worker)
    assert worker.cfg.pre_request is decorated


@pytest.mark.parametrize("wrong", [7, "nowhere", lambda server: None])
def test_compose_raises_what_gunicorns_validator_raises(wrong: object) -> None:
    """A value that is not a hook raises gunicorn's own exception."""
    with pytest.raises(TypeError) as ours:
        composition().compose("pre_fork", wrong)
    with pytest.raises(TypeError) as gunicorns:
        Config().set("pre_fork", wrong)
    assert str(ours.value) == str(gunicorns.value)


def test_part_after_the_user_hook_runs_once_and_last() -> None:
    """Our first part runs at each call; the part after the user's hook at the end of the outermost call only."""
    order: list[str] = []
    parts = HookParts(lambda: order.append("before"), lambda: order.append("after"))

    def user_hook() -> str:
        order.append("user")
        run_around("on_exit", parts, lambda: order.append("inner"))
        return "result"

    assert run_around("on_exit", parts, user_hook) == "result"
    assert order == ["before", "user", "before", "inner", "after"]
    order.clear()
    run_around("on_exit", parts, lambda: order.append("user"))
    assert order == ["before", "user", "after"]


def test_part_after_a_user_hook_that_raises_does_not_run() -> None:
    """The user's exception goes on, and the next call is an outermost one again."""
    order: list[str] = []
    parts = HookParts(lambda: order.append("before"), lambda: order.append("after"))
    with pytest.raises(ZeroDivisionError):
        run_around("on_exit", parts, lambda: 1 // 0)
    run_around("on_exit", parts, lambda: None)
    assert order == ["before", "before", "after"]


def test_origins_are_those_of_our_hooks_only() -> None:
    """A configuration has one origin for each of our hooks, and none for the user's."""
    namespace: dict[str, Any] = {}
    install(namespace)
    cfg = loaded(namespace)
    assert len(origins(cfg)) == len(HOOKS)
    assert {origin.composition is not None for origin in origins(cfg)} == {True}
    cfg.set("pre_fork", lambda server, worker: None)
    assert len(origins(cfg)) == len(HOOKS) - 1
    assert origins(Config()) == []
