"""Prometheus metrics for gunicorn, enabled by one line in ``gunicorn.conf.py``."""

from ._version import __version__
from .hooks import (
    child_exit,
    nworkers_changed,
    on_exit,
    on_reload,
    on_starting,
    post_fork,
    post_request,
    post_worker_init,
    pre_fork,
    pre_request,
    when_ready,
    worker_abort,
    worker_exit,
    worker_int,
)
from .install import install
from .settings import InvalidSetting, Settings

__all__ = [
    "InvalidSetting",
    "Settings",
    "__version__",
    "child_exit",
    "install",
    "nworkers_changed",
    "on_exit",
    "on_reload",
    "on_starting",
    "post_fork",
    "post_request",
    "post_worker_init",
    "pre_fork",
    "pre_request",
    "when_ready",
    "worker_abort",
    "worker_exit",
    "worker_int",
]
