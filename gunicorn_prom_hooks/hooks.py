"""gunicorn's server hooks, one function each. None of them raises.

gunicorn's documentation, "Server Hooks", says in which process each one runs, and when. The master's run in its main
loop, except ``child_exit`` before gunicorn 24, which runs in the SIGCHLD handler. ``worker_int`` and ``worker_abort``
run in signal handlers of the worker.

A hook may be called more than once for one event: by gunicorn, and by a hook of the user's that calls it by name. So
each one is idempotent per worker, reload or process.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, TypeVar

from . import _state
from .composition import HookParts, do_nothing, mark_hook, run_around

Hook = TypeVar("Hook", bound=Callable[..., None])

PARTS: Final[dict[str, HookParts]] = {}
"""By name, what runs before the user's hook and after it, in the order in which gunicorn first calls the hooks."""


def _hook(after: Callable[..., None] = do_nothing) -> Callable[[Hook], Hook]:
    """Register a hook so that its exceptions are reported, not raised.

    Args:
        after: runs when the user's hook has returned. A hook that is called by name runs both parts.
    """

    def register(before: Hook) -> Hook:
        name = before.__name__
        parts = PARTS[name] = HookParts(_guarded(before, name), after if after is do_nothing else _guarded(after, name))

        @functools.wraps(before)
        def whole(*args: Any) -> None:
            run_around(name, parts, do_nothing, *args)

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


def _update_exporter(server: Any, worker: Any = None) -> None:
    """Start the exporter or give it the current settings. After the user's hook, which may bind ports itself."""
    _state.ensure_master(server).update_exporter(read_files=worker is None)


def _check_after_users_pre_fork(server: Any, worker: Any) -> None:
    """Make sure that the worker calls our hooks, whatever the user's ``pre_fork`` has set.

    A reload forks hundreds of workers a second, and each fork copies the memory that is touched in between. So
    everything else is checked less often.
    """
    if _state.check_all or not _state.is_post_fork_installed(server.cfg):
        # If a when_ready below the install line has replaced our hook, pre_fork is the first one that is called.
        _update_exporter(server, worker)


def _reinstall_hooks(server: Any, worker: Any) -> None:
    _state.reinstall_hooks(worker.cfg)


def _close(server: Any) -> None:
    master = _state.master()
    if master is not None:
        master.close()


@_hook()
def nworkers_changed(server: Any, new_value: int, old_value: int | None) -> None:
    """Run in the master at its start and at every reload, before the application is loaded."""
    _state.ensure_master(server).note_resize(new_value)


@_hook()
def on_starting(server: Any) -> None:
    """Run in the master before it listens."""
    _state.ensure_master(server)


@_hook(after=_update_exporter)
def when_ready(server: Any) -> None:
    """Run in the master when it listens, before the first worker."""
    _state.ensure_master(server)


@_hook(after=_update_exporter)
def on_reload(server: Any) -> None:
    """Run in the master after a HUP has reloaded the configuration, before the new workers."""
    _state.ensure_master(server)
    _state.count_reload()


@_hook(after=_check_after_users_pre_fork)
def pre_fork(server: Any, worker: Any) -> None:
    """Run in the master before each fork."""
    master = _state.before_fork(server)
    master.before_fork(worker, check_all=_state.check_all)
    _state.prepare_worker(worker)


@_hook(after=_reinstall_hooks)
def post_fork(server: Any, worker: Any) -> None:
    """Run in the worker right after the fork."""
    _state.start_worker(worker)


@_hook(after=_state.finish_worker)
def post_worker_init(worker: Any) -> None:
    """Run in the worker when the application is loaded. The user's hook runs before the application is instrumented."""
    _state.log_if_hooks_missing(worker)


@_hook()
def worker_int(worker: Any) -> None:
    """Run in the worker on SIGINT and SIGQUIT."""
    _state.log_if_hooks_missing(worker)
    runtime = _state.worker()
    if runtime is not None:
        runtime.interrupted()


@_hook()
def worker_abort(worker: Any) -> None:
    """Run in the worker on SIGABRT, which the master sends after a timeout."""
    _state.log_if_hooks_missing(worker)
    runtime = _state.worker()
    if runtime is not None:
        runtime.aborting()


@_hook()
def worker_exit(server: Any, worker: Any) -> None:
    """Run in the worker at the end of an orderly exit.

    gunicorn also calls it in the master, instead of ``child_exit``, if a worker could not be signaled.
    """
    _state.log_if_hooks_missing(worker)
    runtime, master = _state.worker(), _state.master()
    if runtime is not None:
        runtime.leaving()
    elif master is not None:
        master.worker_exited(worker)


@_hook()
def child_exit(server: Any, worker: Any) -> None:
    """Run in the master when a worker has exited."""
    _state.log_if_hooks_missing(worker)
    master = _state.master()
    if master is not None:
        master.worker_exited(worker)


@_hook(after=_close)
def on_exit(server: Any) -> None:
    """Run in the master at its end. The exporter and the application's metrics are closed after the user's hook."""
    _state.log_if_hooks_missing(server)
    master = _state.master()
    if master is not None:
        master.record_final_exits()


def pre_request(worker: Any, req: Any) -> None:
    """Run in the worker before each request, if it is called by name.

    Under ``install`` a function made for the worker class replaces it, in ``sync_hooks.py``, ``threaded_hooks.py`` or
    ``event_loop_hooks.py`` of ``worker/recording``: ``worker/instrument.py`` chooses which.
    """
    if _state.request_hooks_by_name is not None:
        _state.request_hooks_by_name[0](worker, req)
    else:
        _state.log_if_hooks_missing(worker)


def post_request(worker: Any, req: Any, environ: Any = None, resp: Any = None) -> None:
    """Run in the worker after each request, if it is called by name. See ``pre_request``."""
    if _state.request_hooks_by_name is not None:
        _state.request_hooks_by_name[1](worker, req, environ, resp)
    else:
        _state.log_if_hooks_missing(worker)


# Without ``_guarded``: the functions that they call do not raise.
for _request_hook in (pre_request, post_request):
    mark_hook(_request_hook)
    PARTS[_request_hook.__name__] = HookParts(_request_hook)
