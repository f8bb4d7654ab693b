"""The request hooks that are made for one worker, where gunicorn calls them."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger
from unit_fresh import fresh

from gunicorn_prom_hooks import install
from gunicorn_prom_hooks.chaining import chain, is_ours, specialise


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is installed before the test."""
    fresh(monkeypatch)


def a_worker(namespace: dict[str, Any], loglevel: str = "info") -> Any:
    """As much of a worker as there is to specialise: its configuration and its log."""
    cfg = Config()
    cfg.set("loglevel", loglevel)
    for name in ("pre_request", "post_request"):
        if name in namespace:
            cfg.set(name, namespace[name])
    return SimpleNamespace(cfg=cfg, log=Logger(cfg))


def made(calls: list[str]) -> tuple[Any, Any]:
    """Request hooks as they are made for a worker."""

    def pre_request(worker: Any, req: Any) -> None:
        calls.append("our pre_request")

    def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
        calls.append("our post_request")

    return pre_request, post_request


REQUEST = SimpleNamespace(method="GET", path="/x")


def serve(worker: Any) -> None:
    """What gunicorn does around a request."""
    worker.cfg.pre_request(worker, REQUEST)
    worker.cfg.post_request(worker, REQUEST, {}, None)


def test_the_hooks_made_for_a_worker_stand_alone() -> None:
    """Where the user has no request hooks, gunicorn calls ours with nothing in between."""
    calls: list[str] = []
    namespace: dict[str, Any] = {}
    install(namespace)
    worker, hooks = a_worker(namespace), made(calls)
    assert specialise(worker, *hooks)
    assert (worker.cfg.pre_request, worker.cfg.post_request) == hooks
    serve(worker)
    assert calls == ["our pre_request", "our post_request"]


def test_the_users_request_hooks_follow() -> None:
    """The user's request hooks, whatever their arity, run behind those made for the worker."""
    calls: list[str] = []
    namespace: dict[str, Any] = {
        "pre_request": lambda worker, req: calls.append("users pre_request"),
        "post_request": lambda worker, req: calls.append("users post_request"),
    }
    install(namespace)
    worker = a_worker(namespace)
    assert specialise(worker, *made(calls))
    serve(worker)
    assert calls == ["our pre_request", "users pre_request", "our post_request", "users post_request"]


@pytest.mark.parametrize(("loglevel", "lines"), [("debug", ["GET /x"]), ("info", [])])
def test_gunicorns_debug_line_is_still_logged(loglevel: str, lines: list[str]) -> None:
    """Where the user has no pre_request, gunicorn's own line comes at level debug, and costs nothing at others."""
    namespace: dict[str, Any] = {}
    install(namespace)
    worker = a_worker(namespace, loglevel)
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign,assignment]
    worker.log.error_log.addHandler(handler)
    try:
        assert specialise(worker, *made([]))
        serve(worker)
    finally:
        worker.log.error_log.removeHandler(handler)
    assert [record.getMessage() for record in records] == lines


def test_hooks_that_the_user_calls_by_name_are_left_alone() -> None:
    """Where gunicorn's hooks are not ours, nothing is put in their place."""
    worker = a_worker({"pre_request": lambda worker, req: None})
    before = worker.cfg.pre_request
    assert not specialise(worker, *made([]))
    assert worker.cfg.pre_request is before


def test_a_chain_is_ours_and_a_users_hook_is_not() -> None:
    """A hook of ours is known as such with and without the user's behind it."""

    def theirs(server: Any, worker: Any) -> None:
        """A user's hook."""

    assert not is_ours(theirs)
    assert not is_ours(None)
    for behind in (None, theirs):
        chained = chain("pre_fork", lambda server, worker: None, behind)
        assert is_ours(chained)
        assert chained.__name__ == "pre_fork"


@pytest.mark.parametrize("wrong", [7, "nowhere", lambda server: None])
def test_what_is_no_hook_is_refused_by_gunicorns_own_validator(wrong: object) -> None:
    """chain raises what gunicorn raises."""
    with pytest.raises(TypeError) as ours:
        chain("pre_fork", lambda server, worker: None, wrong)
    with pytest.raises(TypeError) as gunicorns:
        Config().set("pre_fork", wrong)
    assert str(ours.value) == str(gunicorns.value)
