"""The ready-made hooks, one for each of gunicorn's: what happens where. None of them ever raises.

Which process and when: gunicorn's documentation, "Server Hooks". Those of the master run between signals, but for
``child_exit``, which before gunicorn 24 runs in the SIGCHLD handler; ``worker_int`` and ``worker_abort`` run in signal
handlers of the worker.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from . import runtime
from .chaining import mark_as_ours

Hook = TypeVar("Hook", bound=Callable[..., None])


def _guarded(hook: Hook) -> Hook:
    @functools.wraps(hook)
    def guarded(*args: Any) -> None:
        try:
            hook(*args)
        except Exception:  # noqa: BLE001 - never harm the server
            runtime.guard.failed(hook.__name__)

    mark_as_ours(guarded)
    return guarded  # type: ignore[return-value]  # functools.wraps keeps the signature


@_guarded
def nworkers_changed(server: Any, new_value: int, old_value: int | None) -> None:
    """In the master, at its start and at every reload, before the application is loaded."""
    runtime.in_master(server).resized(new_value)


@_guarded
def on_starting(server: Any) -> None:
    """In the master, before it listens."""
    runtime.in_master(server)


@_guarded
def when_ready(server: Any) -> None:
    """In the master, when it listens and before the first worker."""
    runtime.in_master(server).serve(again=True)


@_guarded
def on_reload(server: Any) -> None:
    """In the master, after a HUP has read the configuration anew and before the new workers."""
    master = runtime.in_master(server)
    master.reloaded()
    master.serve(again=True)


@_guarded
def pre_fork(server: Any, worker: Any) -> None:
    """In the master, before each fork."""
    master = runtime.in_master(server)
    master.forking(worker)
    master.serve()  # where a when_ready below the install line has replaced ours, this is the first we hear
    runtime.prepare_worker(worker)


@_guarded
def post_fork(server: Any, worker: Any) -> None:
    """In the worker, first thing."""
    runtime.begin_worker(worker)


@_guarded
def post_worker_init(worker: Any) -> None:
    """In the worker, when the application is loaded."""
    runtime.ready_worker(worker)


def pre_request(worker: Any, req: Any) -> None:
    """In the worker, before each request. Under ``install`` the hook made for this worker stands in its place."""
    if runtime.by_name is not None:
        runtime.by_name[0](worker, req)


def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
    """In the worker, after each request. Under ``install`` the hook made for this worker stands in its place."""
    if runtime.by_name is not None:
        runtime.by_name[1](worker, req, environ, resp)


@_guarded
def worker_int(worker: Any) -> None:
    """In the worker, on SIGINT and SIGQUIT."""
    side = runtime.worker()
    if side is not None:
        side.interrupted()


@_guarded
def worker_abort(worker: Any) -> None:
    """In the worker, on SIGABRT: the master's way to end one that has timed out."""
    side = runtime.worker()
    if side is not None:
        side.aborting()


@_guarded
def worker_exit(server: Any, worker: Any) -> None:
    """In the worker, last thing; in the master instead of ``child_exit`` where a worker could not be signalled."""
    side, master = runtime.worker(), runtime.master()
    if side is not None:
        side.leaving()
    elif master is not None:
        master.left(worker)


@_guarded
def child_exit(server: Any, worker: Any) -> None:
    """In the master, when a worker has ended."""
    master = runtime.master()
    if master is not None:
        master.left(worker)


@_guarded
def on_exit(server: Any) -> None:
    """In the master, last thing."""
    master = runtime.master()
    if master is not None:
        master.exiting()


# Not behind a guard of their own: they hand on to hooks that are guarded.
mark_as_ours(pre_request)
mark_as_ours(post_request)
