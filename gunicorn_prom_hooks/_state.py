"""The per-process state between hooks. No other module keeps any.

The master's part survives every reload, in which the config file runs again. A worker inherits a copy of it through
the fork and adds its own part.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from . import settings as _settings
from .composition import Composition, origins, remove_request_hooks
from .concurrency import SharedOnce
from .errors import ErrorReporter
from .log_observer import LogObserver

if TYPE_CHECKING:
    from .master.master import Master
    from .worker.recording.sync_hooks import PostRequest, PreRequest
    from .worker.worker import WorkerRuntime

CHECK_SECONDS: Final = 1.0
"""Minimum time between two forks before which everything is checked: hooks, logger, exporter, files, all workers."""
errors = ErrorReporter()
_latest: Composition | None = None
"""The latest ``install`` call in this process."""
_composition: Composition | None = None
"""The ``install`` call whose hooks this server's configuration has. None if the hooks are only called by name."""
_reload_due = False
"""The configuration has been read again, and the reload is not yet counted."""
_missing_hooks: SharedOnce | None = None
"""Claimed by the process of the server that logs that hooks are missing."""
_last_check = -inf
"""Monotonic seconds of the last fork before which everything was checked."""
check_all = True
"""Everything is checked before the next fork."""
_master: Master | None = None
_worker: WorkerRuntime | None = None
_prepared: type | None = None
"""The worker class that ``prepare_worker`` was last called for."""
_runtime_class: type[WorkerRuntime] | None = None
"""``WorkerRuntime``, which ``prepare_worker`` imports."""
request_hooks_by_name: tuple[PreRequest, PostRequest] | None = None
"""In a worker without ``install``, whose user calls the hooks by name: its request hooks."""


def load_settings(given: Mapping[str, Any]) -> _settings.Settings:
    """Return the settings of an ``install`` call.

    Raises:
        InvalidSetting: at start. In a running master it is logged, and the previous settings stay.
    """
    try:
        return _settings.load(given)
    except _settings.InvalidSetting as error:
        running = master()
        if running is None:
            raise
        try:
            running.server.log.error("%s; the previous settings stay", error)
        except Exception:  # noqa: BLE001 - raised in the config file, it would end the master
            errors.report("log")
        return running.settings


def register_install(composition: Composition) -> None:
    """Register an ``install`` call."""
    global _latest, _missing_hooks  # noqa: PLW0603
    _latest = composition
    if _missing_hooks is None:
        _missing_hooks = SharedOnce()


def latest_install() -> Composition | None:
    """Return the latest ``install`` call in this process; None if there was none."""
    return _latest


def before_fork(server: Any) -> Master:
    """Return the master, before a fork. Sets ``check_all``; if it is true, hooks, settings and logger are checked."""
    global _last_check, check_all  # noqa: PLW0603
    now = monotonic()
    check_all = _reload_due or _master is None or _master.server is not server or now - _last_check >= CHECK_SECONDS
    if not check_all and _master is not None:
        return _master
    _last_check = now
    found = ensure_master(server)
    count_reload()
    return found


def is_post_fork_installed(cfg: Any) -> bool:
    """Return whether the next worker will call our ``post_fork``, which reinstalls all other hooks."""
    return _composition is None or _composition.is_installed(cfg, "post_fork")


def ensure_master(server: Any) -> Master:
    """Return the master, created at the first call, with our hooks installed and the current settings applied."""
    current = _master if _master is not None and _master.server is server else _create_master(server)
    reinstall_hooks(server.cfg)
    if _composition is not None and current.settings is not _composition.settings:
        current.apply_settings(_composition.settings)
    _log_observer.attach(server.log, listening=True)
    return current


def reinstall_hooks(cfg: Any) -> None:
    """Compose our hooks with what has replaced them in a loaded configuration, unless they are called by name."""
    if _composition is not None:
        _composition.reinstall_hooks(cfg)


def count_reload() -> None:
    """Count the current reload, once. It replaces all workers."""
    global _reload_due  # noqa: PLW0603
    current = master()
    if _reload_due and current is not None:
        _reload_due = False
        current.note_reload()


def _create_master(server: Any) -> Master:
    global _composition, _master  # noqa: PLW0603
    # Late: a process that only checks its configuration does not import what a server needs.
    from .master.master import Master

    _composition = _find_composition(server.cfg, _latest)
    settings = _settings.load({}) if _composition is None else _composition.settings
    errors.log = server.log
    created = _master = Master(server, settings, errors)
    try:
        _watch_reloads(server)
    except Exception:  # noqa: BLE001 - an application of another kind; its reloads are known from the hooks alone
        errors.report("reload")
    created.start_app_metrics()
    return created


def _find_composition(cfg: Any, otherwise: Composition | None) -> Composition | None:
    """Return the composition of a loaded configuration.

    Args:
        cfg: gunicorn's.
        otherwise: returned if the user's functions have replaced all of our hooks.
    """
    found = origins(cfg)
    for origin in found:
        if origin.composition is not None:
            return origin.composition
    return None if found else otherwise  # a hook imported by name: the user calls them


def _watch_reloads(server: Any) -> None:
    """Wrap the application's ``reload``, to install our hooks in the new configuration.

    Any of the master's hooks may be replaced below the ``install`` line. Without this, old workers could exit and new
    ones be forked before any of our hooks is called.
    """
    app = server.app
    reload = app.reload

    def reloading(*args: Any, **kwargs: Any) -> Any:
        latest = _latest
        result = reload(*args, **kwargs)
        try:
            _after_reload(app.cfg, None if latest is _latest else _latest)
        except Exception:  # noqa: BLE001 - gunicorn must go on to reload
            errors.report("reload")
        return result

    app.reload = reloading


def _after_reload(cfg: Any, reinstalled: Composition | None) -> None:
    global _composition, _reload_due  # noqa: PLW0603
    current = master()
    if current is None:
        return
    _reload_due = True
    found = _find_composition(cfg, reinstalled)
    if found is not None:
        _composition = found
        found.reinstall_hooks(cfg)
    elif _composition is not None:
        count_reload()  # the install line was removed from the config file
    current.exporter.free_port_for(cfg.address)


def log_if_hooks_missing(owner: Any) -> None:
    """Log, once per server, that none of our hooks was called in the master. ``owner`` is a worker or the arbiter."""
    global _missing_hooks  # noqa: PLW0603
    if _master is not None:
        return
    try:
        if _missing_hooks is None:
            _missing_hooks = SharedOnce()
        if _missing_hooks.claim():
            owner.log.error(
                "gunicorn_prom_hooks: no metrics: none of its hooks is called in the master; hooks defined below "
                "install() replace them: move install() to the end of the file"
            )
    except Exception:  # noqa: BLE001 - the user's logger may fail
        errors.report("log")


def master() -> Master | None:
    """Return the master, if this process is the master; None in a worker, which has inherited the object."""
    return _master if _master is not None and _master.pid == os.getpid() else None


def worker() -> WorkerRuntime | None:
    """Return the worker's runtime, if this process is a worker; None in a process that a worker has forked."""
    return _worker if _worker is not None and _worker.pid == os.getpid() else None


def _count_message(level: str) -> None:
    """Count a message to gunicorn's error log, in the master or a worker, but not in processes that they fork."""
    try:
        pid = os.getpid()
        if _worker is not None and _worker.pid == pid:
            _worker.message(level)
        elif _master is not None and _master.pid == pid:
            _master.count_message(level)
    except Exception:  # noqa: BLE001 - this runs within a log call of gunicorn or the application
        errors.report("messages")


def _observe_message(text: object, args: Any) -> None:
    """Read a message of gunicorn's in the master."""
    try:
        if _master is not None and _master.pid == os.getpid():
            _master.observe_message(text, args)
    except Exception:  # noqa: BLE001 - this runs within a log call of gunicorn or the application
        errors.report("messages")


_log_observer = LogObserver(_count_message, _observe_message)


def prepare_worker(gunicorn_worker: Any) -> None:
    """Import what a worker of this class needs. In the master, before a fork, so that all workers share it.

    This comes after gunicorn's import of the class, after a preloaded application, and after what reads the
    environment for ``prometheus_client``. It is repeated for another class: a reload may change the class.
    """
    global _prepared, _runtime_class
    if type(gunicorn_worker) is not _prepared and _master is not None:
        from .worker import instrument
        from .worker.worker import WorkerRuntime

        instrument.prepare(type(gunicorn_worker), _master.buckets.bounds)
        _prepared, _runtime_class = type(gunicorn_worker), WorkerRuntime


def start_worker(gunicorn_worker: Any) -> None:
    """Create the worker's runtime, right after the fork. A worker without a slot has none, and records nothing."""
    global _worker  # noqa: PLW0603
    if worker() is not None:
        return
    if _master is None:
        log_if_hooks_missing(gunicorn_worker)
        return
    tracked = _master.tracked_worker(gunicorn_worker)
    if tracked is not None and _runtime_class is not None:
        errors.log = gunicorn_worker.log
        _master.become_worker(tracked)
        _worker = _runtime_class(
            gunicorn_worker, tracked.lease.reader, _master.settings, _master.buckets.bounds, errors
        )
        if errors.unpublished:
            errors.publish_earlier()


def finish_worker(gunicorn_worker: Any) -> None:
    """Install the request hooks, after the application is loaded and the user's hook has run."""
    global request_hooks_by_name  # noqa: PLW0603
    runtime = worker()
    # Now: the application may have configured logging, and disabled gunicorn's loggers.
    _log_observer.attach(gunicorn_worker.log, listening=False)
    if runtime is None or runtime.is_ready or _master is None:
        return
    _master.check_stacks(gunicorn_worker)
    made = runtime.ready()
    reinstall_hooks(gunicorn_worker.cfg)
    if made is None:
        remove_request_hooks(gunicorn_worker)
    elif _composition is None:
        request_hooks_by_name = made
    else:
        _composition.install_request_hooks(gunicorn_worker, *made)
