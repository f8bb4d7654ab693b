"""The rules for a loaded configuration: hooks, settings, and what the server needs of the system."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

from ... import _state
from ..._gunicorn import ASGI, GREENLETS, GTHREAD, SYNC, TORNADO, UVICORN, is_a
from ...composition import origin_of
from ...exporter.bound_sockets import where
from ...exporter.tls import BadCertificate, server_context
from ...hooks import PARTS
from ...settings import Settings
from ..findings import Finding, note
from .certificates import find_date_problem
from .config_files import check_directories
from .config_ports import check_ports

IN_MASTER: Final = ("nworkers_changed", "on_starting", "when_ready", "pre_fork")
"""Hooks of which one has to be of this package: it composes the others again."""
CONFIG_MODULE: Final = "__config__"
"""The name that gunicorn gives a config file as a module."""
RECORDED: Final = (SYNC, GTHREAD, GREENLETS, TORNADO, ASGI, *UVICORN)


def check(cfg: Any, *, is_running: bool) -> tuple[list[str], list[Finding]]:
    """Return facts and findings on a configuration.

    Args:
        cfg: gunicorn's, loaded.
        is_running: whether its server is running, so that its ports are taken.
    """
    settings = _settings(cfg)
    if settings is None:
        return [], [Finding("the config does not call install()", "Add install(globals()) at its end")]
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        lambda: _check_hooks(cfg),
        lambda: _check_certificates(cfg, settings),
        lambda: check_ports(cfg, settings, is_running=is_running),
        lambda: check_directories(cfg, settings),
        # The last one: the import of a worker class may change the process.
        lambda: _check_worker_class(cfg),
    )
    findings = [finding for one in checks for finding in one()]
    return list(_facts(settings)), findings


def _settings(cfg: Any) -> Settings | None:
    """Return the settings of the ``install`` call; None if there was none, and no hook is called by name."""
    for name in PARTS:
        origin = origin_of(cfg.settings[name].get())
        if origin is not None and origin.composition is not None:
            settings: Settings = origin.composition.settings
            return settings
    latest = _state.latest_install()
    if latest is not None:
        found: Settings = latest.settings
        return found
    return _state.load_settings({}) if _has_hooks_by_name(cfg) else None


def _has_hooks_by_name(cfg: Any) -> bool:
    """Return whether a hook of this package is set by name, or the config can call one by name."""
    names = vars(sys.modules.get(CONFIG_MODULE, object)).values()
    is_set = any(origin_of(cfg.settings[name].get()) is not None for name in PARTS)
    package = sys.modules[__package__.partition(".")[0]]
    return is_set or any(value is package or origin_of(value) is not None for value in names)


def _facts(settings: Settings) -> Iterator[str]:
    if settings.port:
        scheme = "https" if settings.certfile else "http"
        yield f"the metrics will be at {scheme}://{where(settings.address, settings.port)}/metrics"
    else:
        yield "there will be no metrics port, since `port` is 0"


def _check_hooks(cfg: Any) -> Iterator[Finding]:
    hooks = {name: origin_of(cfg.settings[name].get()) for name in PARTS}
    if _state.latest_install() is None:
        missing = [name for name, origin in hooks.items() if origin is None]
        if missing:
            yield note(
                f"hooks are called by name, and these are not: {', '.join(missing)}",
                "If your own hooks do not call them, call install(globals()) at the end of the config instead",
            )
        return
    replaced = [name for name, origin in hooks.items() if origin is None]
    if set(IN_MASTER) <= set(replaced):
        yield Finding(
            f"hooks of the config replace those of this package: {', '.join(replaced)}; no metrics would be served",
            "Move install(globals()) to the end of the config",
        )
    elif replaced:
        yield note(
            f"hooks below install() replace those of this package until the server starts: {', '.join(replaced)}",
            "Move install(globals()) to the end of the config",
        )


def _check_certificates(cfg: Any, settings: Settings) -> Iterator[Finding]:
    if settings.certfile:
        try:
            context = server_context(settings.certfile, settings.keyfile, settings.client_cafile)
        except BadCertificate as error:
            yield Finding(
                f"{error}; the metrics port would stay closed",
                "Name PEM files that the user of gunicorn's master can read, with an unencrypted key",
            )
        else:
            dates = find_date_problem(settings.certfile, context)
            if dates:
                yield Finding(f"certfile {settings.certfile!r}: {dates}", "Renew it: Prometheus would refuse it")
    if cfg.certfile:
        try:
            server_context(cfg.certfile, cfg.keyfile or "", "")
        except BadCertificate as error:
            yield Finding(f"{error}, for the application's port", "Correct `certfile` and `keyfile` of gunicorn")


def _check_worker_class(cfg: Any) -> Iterator[Finding]:
    try:
        worker_class = cfg.worker_class
    except Exception as error:  # noqa: BLE001 - whatever the import of the class raises
        # gunicorn's message may end with a traceback in brackets.
        lines = [line.strip() for line in str(error).splitlines() if line.strip() not in ("", "]")]
        yield Finding(
            f"worker_class {cfg.worker_class_str!r} cannot be loaded: {[type(error).__name__, *lines][-1]}",
            "Install what it needs, or set another one",
        )
        return
    if not is_a(worker_class, *RECORDED):
        yield note(
            f"requests of worker_class {cfg.worker_class_str!r} are not counted",
            "docs/compatibility.md lists the classes whose requests are",
        )
