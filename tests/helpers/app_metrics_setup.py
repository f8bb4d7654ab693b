"""Application metrics set up as in a master, in processes of their own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace
from typing import Any

from gunicorn.config import Config

from gunicorn_prom_hooks.app_metrics.setup import ApplicationMetrics, begin
from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.settings import Settings

SPAWN = multiprocessing.get_context("spawn")


DEADLINE_SECONDS = 60.0


def in_new_process(function: Callable[..., Any], *args: object) -> Any:
    """Return the result of the function in a new process, as it changes prometheus_client for the whole process."""
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        return pool.submit(function, *args).result(DEADLINE_SECONDS)


class Log:
    """Keeps what is logged, by level."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.infos: list[str] = []

    def error(self, msg: str, *args: object, **_: object) -> None:
        """Keep the line."""
        self.lines.append(("error", msg % args))

    def warning(self, msg: str, *args: object) -> None:
        """Keep the line."""
        self.lines.append(("warning", msg % args))

    def info(self, msg: str, *args: object) -> None:
        """Keep the line in ``infos``."""
        self.infos.append(msg % args)


def fake_server(**raw_env: str) -> Any:
    """Return a stand-in for gunicorn's arbiter, with the attributes that are read."""
    cfg = Config()
    cfg.set("raw_env", [f"{name}={value}" for name, value in raw_env.items()])
    return SimpleNamespace(cfg=cfg, log=Log())


def started(settings: Settings | None = None, server: Any = None) -> tuple[ApplicationMetrics, Any, ErrorReporter]:
    """Set up the application's metrics. Return them, the server and the reporter of failures."""
    server = server or fake_server()
    errors = ErrorReporter()
    metrics = begin(server, settings or Settings(), errors)
    assert metrics is not None, server.log.lines
    return metrics, server, errors
