"""The ready-made hooks, one for each of gunicorn's: what happens where. None of them ever raises.

Which process and when: gunicorn's documentation, "Server Hooks". Those of the master run between signals, but for
``child_exit``, which before gunicorn 24 runs in the SIGCHLD handler; ``worker_int`` and ``worker_abort`` run in signal
handlers of the worker.

Each may be reached more than once for one event, by gunicorn and by a hook of the user's that calls it by name. So
each is idempotent: what it does belongs to the worker, the reload or the process that it is told of.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, TypeVar

from . import _state
from .composition import Parts, do_nothing, mark_hook, run

Hook = TypeVar("Hook", bound=Callable[..., None])

PARTS: Final[dict[str, Parts]] = {}
"""Our hooks by name, in the order in which gunicorn calls them first: what runs before the user's, and after it."""


def _hook(after: Callable[..., None] = do_nothing) -> Callable[[Hook], Hook]:
    """Register a hook, guarded.

    Args:
        after: what is done when the user's hook of that name has returned. Called by name, a hook does all at once.
    """

    def register(before: Hook) -> Hook:
        name = before.__name__
        parts = PARTS[name] = Parts(_guarded(before, name), _guarded(after, name))

        @functools.wraps(before)
        def whole(*args: Any) -> None:
            run(name, parts, do_nothing, *args)

        mark_hook(whole)
        return whole  # type: ignore[return-value]  # functools.wraps keeps the signature

    return register


def _guarded(hook: Callable[..., None], name: str) -> Callable[..., None]:
    def guarded(*args: Any) -> None:
        try:
            hook(*args)
        except Exception:  # noqa: BLE001 - never harm the server
            _state.errors.report(name)

    return guarded


def _serve(server: Any, worker: Any = None) -> None:
    """Start the exporter, or have it follow the settings. The user's hook has taken the ports that it wants by now."""
    _state.in_master(server).serve(again=worker is None)


def _before_fork(server: Any, worker: Any) -> None:
    """Have our hooks called in the worker, whatever the user's ``pre_fork`` has set.

    A reload forks hundreds of workers a second, and what is touched in between is copied for each. So all else is
    looked after less often.
    """
    if _state.is_due or not _state.is_in_place(server.cfg):
        # Where a when_ready below the install line has replaced ours, pre_fork is the first that is called.
        _serve(server, worker)


def _compose_again(server: Any, worker: Any) -> None:
    _state.reinstall_hooks(worker.cfg)


def _close(server: Any) -> None:
    master = _state.master()
    if master is not None:
        master.close_all()


@_hook()
def nworkers_changed(server: Any, new_value: int, old_value: int | None) -> None:
    """In the master, at its start and at every reload, before the application is loaded."""
    _state.in_master(server).resized(new_value)


@_hook()
def on_starting(server: Any) -> None:
    """In the master, before it listens."""
    _state.in_master(server)


@_hook(after=_serve)
def when_ready(server: Any) -> None:
    """In the master, when it listens and before the first worker."""
    _state.in_master(server)


@_hook(after=_serve)
def on_reload(server: Any) -> None:
    """In the master, after a HUP has read the configuration anew and before the new workers."""
    _state.in_master(server)
    _state.count_reload()


@_hook(after=_before_fork)
def pre_fork(server: Any, worker: Any) -> None:
    """In the master, before each fork."""
    master = _state.forking(server)
    master.forking(worker, look=_state.is_due)
    _state.prepare_worker(worker)


@_hook(after=_compose_again)
def post_fork(server: Any, worker: Any) -> None:
    """In the worker, first thing."""
    _state.begin_worker(worker)


@_hook(after=_state.ready_worker)
def post_worker_init(worker: Any) -> None:
    """In the worker, when the application is loaded. The user's hook sees the application as it was loaded."""
    _state.say_if_missed(worker)


@_hook()
def worker_int(worker: Any) -> None:
    """In the worker, on SIGINT and SIGQUIT."""
    _state.say_if_missed(worker)
    side = _state.worker()
    if side is not None:
        side.interrupted()


@_hook()
def worker_abort(worker: Any) -> None:
    """In the worker, on SIGABRT: the master's way to end one that has timed out."""
    _state.say_if_missed(worker)
    side = _state.worker()
    if side is not None:
        side.aborting()


@_hook()
def worker_exit(server: Any, worker: Any) -> None:
    """In the worker, last thing; in the master instead of ``child_exit`` where a worker could not be signalled."""
    _state.say_if_missed(worker)
    side, master = _state.worker(), _state.master()
    if side is not None:
        side.leaving()
    elif master is not None:
        master.left(worker)


@_hook()
def child_exit(server: Any, worker: Any) -> None:
    """In the master, when a worker has ended."""
    _state.say_if_missed(worker)
    master = _state.master()
    if master is not None:
        master.left(worker)


@_hook(after=_close)
def on_exit(server: Any) -> None:
    """In the master, last thing. The user's hook still has the exporter and the application's metrics."""
    _state.say_if_missed(server)
    master = _state.master()
    if master is not None:
        master.exiting()


def pre_request(worker: Any, req: Any) -> None:
    """In the worker, before each request. Under ``install`` the hook made for this worker stands in its place."""
    if _state.by_name is not None:
        _state.by_name[0](worker, req)
    else:
        _state.say_if_missed(worker)


def post_request(worker: Any, req: Any, environ: Any = None, resp: Any = None) -> None:
    """In the worker, after each request. Under ``install`` the hook made for this worker stands in its place."""
    if _state.by_name is not None:
        _state.by_name[1](worker, req, environ, resp)
    else:
        _state.say_if_missed(worker)


# Not behind a guard of their own: they hand on to what is guarded.
for _request_hook in (pre_request, post_request):
    mark_hook(_request_hook)
    PARTS[_request_hook.__name__] = Parts(_request_hook)
