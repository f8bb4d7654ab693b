"""Global state department: all that a process keeps between hooks, and the only place where it does.

The master's part survives every reload, in which the config file runs anew. A worker inherits a copy of it through
the fork and adds its own part.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import settings as _settings
from .chaining import specialise, step_aside
from .guard import Guard
from .messages import Messages

if TYPE_CHECKING:
    from .master.master import Master
    from .worker.requests import PostRequest, PreRequest
    from .worker.worker import WorkerSide

guard = Guard()
_configured: _settings.Settings | None = None
_put_back: Callable[[Any], None] | None = None
_master: Master | None = None
_worker: WorkerSide | None = None
_prepared: type | None = None
"""The class of workers that ``prepare_worker`` was last called for."""
by_name: tuple[PreRequest, PostRequest] | None = None
"""In a worker: the request hooks, where the user calls them by name instead of using ``install``."""


def configure(given: Mapping[str, Any], put_back: Callable[[Any], None]) -> None:
    """Takes the settings of a config file; ``put_back`` chains hooks again in gunicorn's loaded configuration.

    Raises:
        InvalidSetting: at start. In a running master it is logged, and the last good settings stay.
    """
    global _configured, _put_back
    try:
        _configured, _put_back = _settings.load(given), put_back
    except _settings.InvalidSetting as error:
        if _master is None:
            raise
        _master.server.log.error("%s; the settings from before stay", error)


def in_master(server: Any) -> Master:
    """The master's side, made when it is first asked for, with our hooks all in place and the latest settings."""
    global _configured, _master  # noqa: PLW0603
    if _put_back is not None:
        _put_back(server.cfg)
    if _configured is None:
        _configured = _settings.load({})
    if _master is None:
        # Late: a process that only checks its configuration must not pay for what a server needs.
        from .master.master import Master

        guard.log = server.log
        _master = Master(server, _configured, guard)
        _master.begin()
    elif _master.settings is not _configured:
        _master.configure(_configured)
    _messages.attach(server.log, listening=True)
    return _master


def master() -> Master | None:
    """The master's side, if this process is the master and not a worker that inherited it."""
    return _master if _master is not None and _master.pid == os.getpid() else None


def worker() -> WorkerSide | None:
    """The worker's side, if this process is a worker and not a process that it forked."""
    return _worker if _worker is not None and _worker.pid == os.getpid() else None


def _count(level: str) -> None:
    """Counts a message to gunicorn's error log, in the master or a worker, but not in what they fork."""
    try:
        counting = worker() or master()
        if counting is not None:
            counting.message(level)
    except Exception:  # noqa: BLE001 - it is somebody's log message that we are in
        guard.failed("messages")


def _listen(text: object, args: Any) -> None:
    """Takes note of a message of gunicorn's in the master."""
    try:
        listening = master()
        if listening is not None:
            listening.listen(text, args)
    except Exception:  # noqa: BLE001 - it is somebody's log message that we are in
        guard.failed("messages")


_messages = Messages(_count, _listen)


def prepare_worker(gunicorn_worker: Any) -> None:
    """In the master, before a fork: import what a worker of this class needs, so that the worker need not.

    Later than gunicorn's own import of the class, a preloaded application, and what reads the environment for
    ``prometheus_client``; again for another class, since a reload may bring one.
    """
    global _prepared  # noqa: PLW0603
    if type(gunicorn_worker) is not _prepared:
        from .worker import ways, worker  # noqa: F401 - the latter is for ``begin_worker``

        ways.prepare(type(gunicorn_worker))
        _prepared = type(gunicorn_worker)


def begin_worker(gunicorn_worker: Any) -> None:
    """Makes the worker's side, right after the fork. Without a slot there is none, and nothing is recorded."""
    global _worker  # noqa: PLW0603
    if worker() is not None:
        return
    if _master is None:
        gunicorn_worker.log.error(
            "gunicorn_prom_hooks: no metrics: hooks defined below install() replace ours; move install() to the end"
        )
        return
    member = _master.member(gunicorn_worker)
    if member is not None:
        from .worker.worker import WorkerSide

        guard.log = gunicorn_worker.log
        _master.become_worker(member)
        _worker = WorkerSide(gunicorn_worker, member.lease.reader, _master.settings, guard)


def ready_worker(gunicorn_worker: Any) -> None:
    """Puts the request hooks in place, when the application is loaded."""
    global by_name  # noqa: PLW0603
    side = worker()
    _messages.attach(
        gunicorn_worker.log, listening=False
    )  # the application may have configured logging, and switched gunicorn's off
    if side is not None and not side.is_ready:
        made = side.ready()
        if made is None:
            step_aside(gunicorn_worker)
        elif not specialise(gunicorn_worker, *made):
            by_name = made
