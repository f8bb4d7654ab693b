"""Global state department: all that a process keeps between hooks, and the only place where it does.

The master's part survives every reload, in which the config file runs anew. A worker inherits a copy of it through
the fork and adds its own part.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from . import settings as _settings
from .composition import Composition, origins, remove_request_hooks
from .errors import ErrorReporter
from .log_observer import LogObserver

if TYPE_CHECKING:
    from .master.master import Master
    from .worker.recording.sync_hooks import PostRequest, PreRequest
    from .worker.worker import WorkerRuntime

LOOK_SECONDS: Final = 1.0
"""So often at most everything is looked after before a fork: hooks, logger, exporter, files, and all other workers."""
errors = ErrorReporter()
_latest: Composition | None = None
"""Of the latest ``install`` call in this process."""
_composition: Composition | None = None
"""Of this server: the one that its configuration has hooks of. None where they are called by name alone."""
_reload_due = False
"""The configuration has been read anew; no hook has been told of it yet."""
_missed: mmap.mmap | None = None
"""One byte, shared by all processes of the server: whether they have said that no hook of the master was reached."""
_looked = -inf
"""Monotonic seconds of the last fork before which everything was looked after."""
is_due = True
"""Everything is looked after before the fork that is next."""
_master: Master | None = None
_worker: WorkerRuntime | None = None
_prepared: type | None = None
"""The class of workers that ``prepare_worker`` was last called for."""
_side_of: type[WorkerRuntime] | None = None
"""``WorkerSide``, which ``prepare_worker`` imports."""
by_name: tuple[PreRequest, PostRequest] | None = None
"""In a worker: the request hooks, where the user calls them by name instead of using ``install``."""


def load_settings(given: Mapping[str, Any]) -> _settings.Settings:
    """Return the settings of an ``install`` call.

    Raises:
        InvalidSetting: at start. In a running master it is logged, and the last good settings stay.
    """
    try:
        return _settings.load(given)
    except _settings.InvalidSetting as error:
        running = master()
        if running is None:
            raise
        running.server.log.error("%s; the settings from before stay", error)
        return running.settings


def installed(composition: Composition) -> None:
    """Note an ``install`` call."""
    global _latest, _missed  # noqa: PLW0603
    _latest = composition
    if _missed is None:
        _missed = mmap.mmap(-1, 1)


def forking(server: Any) -> Master:
    """Return the master's side before a fork. ``is_due`` is whether it, and all else, has been looked after."""
    global _looked, is_due  # noqa: PLW0603
    now = monotonic()
    is_due = _reload_due or _master is None or _master.server is not server or now - _looked >= LOOK_SECONDS
    if not is_due and _master is not None:
        return _master
    _looked = now
    side = in_master(server)
    count_reload()
    return side


def is_in_place(cfg: Any) -> bool:
    """Return whether the worker that is forked next will call our ``post_fork``, which puts all others in place."""
    return _composition is None or _composition.is_in_place(cfg, "post_fork")


def in_master(server: Any) -> Master:
    """Return the master's side, made when it is first asked for, with our hooks all in place and its settings."""
    side = _master if _master is not None and _master.server is server else _begin(server)
    reinstall_hooks(server.cfg)
    if _composition is not None and side.settings is not _composition.settings:
        side.configure(_composition.settings)
    _messages.attach(server.log, listening=True)
    return side


def reinstall_hooks(cfg: Any) -> None:
    """Compose our hooks again with what has replaced them in a loaded configuration, unless they are called by name."""
    if _composition is not None:
        _composition.reinstall_hooks(cfg)


def count_reload() -> None:
    """Count the reload that is under way, once: all workers that there are will be replaced."""
    global _reload_due  # noqa: PLW0603
    side = master()
    if _reload_due and side is not None:
        _reload_due = False
        side.reloaded()


def _begin(server: Any) -> Master:
    global _composition, _master  # noqa: PLW0603
    # Late: a process that only checks its configuration must not pay for what a server needs.
    from .master.master import Master

    _composition = _find_composition(server.cfg, _latest)
    settings = _settings.load({}) if _composition is None else _composition.settings
    errors.log = server.log
    side = _master = Master(server, settings, errors)
    try:
        _watch_reloads(server)
    except Exception:  # noqa: BLE001 - an application of another kind; its reloads are known from the hooks alone
        errors.report("reload")
    side.begin()
    return side


def _find_composition(cfg: Any, otherwise: Composition | None) -> Composition | None:
    """Return the composition of a loaded configuration.

    Args:
        cfg: gunicorn's.
        otherwise: the one to take where functions of the user's stand in the place of all of our hooks.
    """
    found = origins(cfg)
    for origin in found:
        if origin.composition is not None:
            return origin.composition
    return None if found else otherwise  # a hook imported by name: the user calls them


def _watch_reloads(server: Any) -> None:
    """Have the application's ``reload`` called through a function that composes the hooks of the new configuration.

    Any hook of the master may have been replaced below the ``install`` line. Until the next hook of ours is called,
    the old workers may be gone and new ones be there.
    """
    app = server.app
    reload = app.reload

    def reloading(*args: Any, **kwargs: Any) -> Any:
        latest = _latest
        result = reload(*args, **kwargs)
        try:
            _reloaded(app.cfg, None if latest is _latest else _latest)
        except Exception:  # noqa: BLE001 - gunicorn must go on to reload
            errors.report("reload")
        return result

    app.reload = reloading


def _reloaded(cfg: Any, installed_anew: Composition | None) -> None:
    global _composition, _reload_due  # noqa: PLW0603
    if master() is None:
        return
    _reload_due = True
    found = _find_composition(cfg, installed_anew)
    if found is not None:
        _composition = found
        found.reinstall_hooks(cfg)
    elif _composition is not None:
        count_reload()  # the install line is gone from the config file, and with it the hooks


def say_if_missed(owner: Any) -> None:
    """Say in the log of a worker or a server, once per server, that no hook of ours in the master was reached."""
    global _missed  # noqa: PLW0603
    if _master is not None:
        return
    try:
        if _missed is None:
            _missed = mmap.mmap(-1, 1)
        if not _missed[0]:
            _missed[0] = 1
            owner.log.error(
                "gunicorn_prom_hooks: no metrics: none of its hooks is called in the master; hooks defined below "
                "install() replace them: move install() to the end"
            )
    except Exception:  # noqa: BLE001 - the user's logger may fail
        errors.report("log")


def master() -> Master | None:
    """The master's side, if this process is the master and not a worker that inherited it."""
    return _master if _master is not None and _master.pid == os.getpid() else None


def worker() -> WorkerRuntime | None:
    """The worker's side, if this process is a worker and not a process that it forked."""
    return _worker if _worker is not None and _worker.pid == os.getpid() else None


def _count(level: str) -> None:
    """Counts a message to gunicorn's error log, in the master or a worker, but not in what they fork."""
    try:
        counting = worker() or master()
        if counting is not None:
            counting.message(level)
    except Exception:  # noqa: BLE001 - it is somebody's log message that we are in
        errors.report("messages")


def _listen(text: object, args: Any) -> None:
    """Takes note of a message of gunicorn's in the master."""
    try:
        listening = master()
        if listening is not None:
            listening.listen(text, args)
    except Exception:  # noqa: BLE001 - it is somebody's log message that we are in
        errors.report("messages")


_messages = LogObserver(_count, _listen)


def prepare_worker(gunicorn_worker: Any) -> None:
    """In the master, before a fork: import what a worker of this class needs, so that the worker need not.

    Later than gunicorn's own import of the class, a preloaded application, and what reads the environment for
    ``prometheus_client``; again for another class, since a reload may bring one.
    """
    global _prepared, _side_of
    if type(gunicorn_worker) is not _prepared:
        from .worker import instrument
        from .worker.worker import WorkerRuntime

        instrument.prepare(type(gunicorn_worker))
        _prepared, _side_of = type(gunicorn_worker), WorkerRuntime


def begin_worker(gunicorn_worker: Any) -> None:
    """Makes the worker's side, right after the fork. Without a slot there is none, and nothing is recorded."""
    global _worker  # noqa: PLW0603
    if worker() is not None:
        return
    if _master is None:
        say_if_missed(gunicorn_worker)
        return
    member = _master.member(gunicorn_worker)
    if member is not None and _side_of is not None:
        errors.log = gunicorn_worker.log
        _master.become_worker(member)
        _worker = _side_of(gunicorn_worker, member.lease.reader, _master.settings, errors)


def ready_worker(gunicorn_worker: Any) -> None:
    """Put in place what records requests, when the application is loaded and the user's hook has seen it."""
    global by_name  # noqa: PLW0603
    side = worker()
    # Now: the application may have configured logging, and switched gunicorn's off.
    _messages.attach(gunicorn_worker.log, listening=False)
    if side is None or side.is_ready:
        return
    made = side.ready()
    reinstall_hooks(gunicorn_worker.cfg)
    if made is None:
        remove_request_hooks(gunicorn_worker)
    elif _composition is None:
        by_name = made
    else:
        _composition.install_request_hooks(gunicorn_worker, *made)
