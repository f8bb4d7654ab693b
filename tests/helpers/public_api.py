"""Everything public, as a user's config and custom application have it. Type checkers read this file."""

from __future__ import annotations

from typing import Any

import gunicorn_prom_hooks as package
from gunicorn_prom_hooks import InvalidSetting, Settings, __version__, install

version: str = __version__
settings: Settings = Settings(port=9100, labels={"site": "a"}, duration_buckets=(0.1, 1.0))
port: int = settings.port
token: str = settings.token


def endpoint(environ: dict[str, Any]) -> str | None:
    """Return a label."""
    return environ.get("PATH_INFO")


install(globals(), port=9100, endpoint=endpoint)
options: dict[str, Any] = {"bind": "127.0.0.1:8000"}
install(options)
try:
    install(options, port=-1)
except InvalidSetting as error:
    message: str = str(error)
hooks = [
    package.child_exit,
    package.nworkers_changed,
    package.on_exit,
    package.on_reload,
    package.on_starting,
    package.post_fork,
    package.post_request,
    package.post_worker_init,
    package.pre_fork,
    package.pre_request,
    package.when_ready,
    package.worker_abort,
    package.worker_exit,
    package.worker_int,
]
