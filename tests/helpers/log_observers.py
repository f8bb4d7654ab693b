"""Loggers that are observed, for the tests of the log observer."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger

from gunicorn_prom_hooks.log_observer import LogObserver

LEVELS = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}
METHODS = {**{name: name for name in LEVELS}, "exception": "error"}
"""Methods of gunicorn's logger, and the level at which each logs."""


class Ear:
    """What is told by ``Messages``: levels that were counted, and texts and arguments that were listened to."""

    def __init__(self) -> None:
        self.counted: list[str] = []
        self.heard: list[tuple[object, Any]] = []
        self.messages = LogObserver(self.counted.append, lambda *message: self.heard.append(message))


def config(loglevel: str) -> Config:
    """Return a gunicorn configuration with this log level."""
    cfg = Config()
    cfg.set("loglevel", loglevel)
    return cfg


def watched(loglevel: str, made_by: Any = Logger, *, listening: bool = True) -> tuple[Any, Ear]:
    """Return gunicorn's logger of this level and its observer, as in the master or, not listening, in a worker."""
    ear, log = Ear(), made_by(config(loglevel))
    ear.messages.attach(log, listening=listening)
    return log, ear


def wrapped(log: Any) -> set[str]:
    """Return the methods of this logger object that are called through functions of this package."""
    return {name for name in METHODS if name in vars(log)}


def hidden(loglevel: str) -> set[str]:
    """Return the methods, without debug, whose messages are hidden at this level."""
    return {name for name, level in METHODS.items() if name != "debug" and LEVELS[level] < LEVELS[loglevel]}


in_master_and_worker = pytest.mark.parametrize("listening", [True, False], ids=["master", "worker"])


class Record(logging.Handler):
    """Keeps the records that are logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record."""
        self.records.append(record)


class Structured:
    """A logger of the user's that is not derived from gunicorn's, nor from logging's, and has no exception."""

    def __init__(self, error_log: Any = None) -> None:
        self.error_log = error_log
        self.said: list[tuple[str, object]] = []

    def error(self, msg: object, *args: object, **fields: object) -> str:
        """Keep the message."""
        self.said.append(("error", msg))
        return "said"

    def info(self, msg: object, *args: object, **fields: object) -> str:
        """Keep the message."""
        self.said.append(("info", msg))
        return "said"
