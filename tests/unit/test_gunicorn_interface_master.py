"""The master's side of gunicorn's private interface, as ``_gunicorn.py`` has it, in the installed gunicorn."""

from __future__ import annotations

import ast
import inspect
import os
import re
import signal
import textwrap
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import gunicorn
import pytest
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.workers.base import Worker
from gunicorn.workers.base_async import AsyncWorker
from gunicorn.workers.gthread import ThreadWorker
from gunicorn.workers.sync import SyncWorker

from gunicorn_prom_hooks._gunicorn import (
    ARBITER_ATTRIBUTES,
    BOOT_EXIT_CODES,
    CHILD_EXIT_IN_SIGNAL_HANDLER,
    EXIT_MESSAGE,
    GUNICORN_VERSION,
    OBSERVED_MESSAGES,
    SHUTDOWN_MESSAGES,
    STOP_SIGNALS,
    TIMEOUT_MESSAGE,
    WORKER_ATTRIBUTES,
    dirty_arbiter_pid,
    heartbeat_age,
    live_worker_ages,
    worker_capacity,
)

PID = 4711


def texts(function: Callable[..., Any]) -> list[str]:
    """Return the string constants in a function's source."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


@pytest.fixture
def arbiter() -> Arbiter:
    """An arbiter that has not started."""

    class App(BaseApplication):
        def load_config(self) -> None:
            pass

        def load(self) -> Any:
            return None

    return Arbiter(App())


@pytest.fixture
def make_worker() -> Iterator[Callable[[type], Any]]:
    """Make workers that are not forked."""
    made: list[Any] = []

    def make(worker_class: type, **settings: Any) -> Any:
        cfg = Config()
        for name, value in settings.items():
            cfg.set(name, value)
        made.append(worker_class(7, os.getpid(), [], None, 30, cfg, None))
        return made[-1]

    yield make
    for worker in made:
        worker.tmp.close()


def test_gunicorn_version_is_the_installed_one_and_at_least_21() -> None:
    """The version is the installed one, with a number before the first dot."""
    assert gunicorn.__version__ == GUNICORN_VERSION
    assert int(GUNICORN_VERSION.split(".")[0]) >= 21


def test_child_exit_runs_in_the_sigchld_handler_only_if_it_reaps_workers() -> None:
    """``child_exit`` runs in the SIGCHLD handler if that handler reaps workers; else it only queues the signal."""
    handler = getattr(Arbiter, "handle_chld" if CHILD_EXIT_IN_SIGNAL_HANDLER else "signal_chld")
    assert ("reap_workers" in inspect.getsource(handler)) is CHILD_EXIT_IN_SIGNAL_HANDLER


def test_arbiter_has_its_attributes(arbiter: Arbiter) -> None:
    """Each attribute that is read of the arbiter exists; ``app`` has ``reload``."""
    assert [name for name in ARBITER_ATTRIBUTES if not hasattr(arbiter, name)] == []
    assert isinstance(arbiter.WORKERS, dict)
    assert callable(arbiter.app.reload)


def test_worker_has_its_attributes(make_worker: Any) -> None:
    """Each attribute that is read of a worker exists. Before the fork the pid is no number."""
    worker = make_worker(SyncWorker)
    assert [name for name in WORKER_ATTRIBUTES if not hasattr(worker, name)] == []
    assert worker.age == 7
    assert not isinstance(worker.pid, int)
    assert worker.aborted is False


def test_exit_messages_of_reap_workers_are_matched() -> None:
    """The texts that ``reap_workers`` logs about an exit are matched, with pid, signal and code."""
    found = [text for text in texts(Arbiter.reap_workers) if text.startswith("Worker (pid:")]
    filled = [text % (PID, 1 if "code" in text else "SIGTERM") if "%s" in text else text for text in found]
    matches = [match.groups() for match in map(EXIT_MESSAGE.match, filled) if match is not None]
    assert len(matches) == len(filled) >= 2
    assert (str(PID), "SIGTERM", None, None) in matches
    assert (str(PID), None, None, "1") in matches
    assert all(text.startswith(OBSERVED_MESSAGES) for text in found)


def test_exit_is_logged_before_child_exit() -> None:
    """In ``reap_workers`` the call of ``child_exit`` comes after all messages."""
    source = inspect.getsource(Arbiter.reap_workers)
    assert source.index("child_exit") > max(match.start() for match in re.finditer(r"self\.log\.\w+\(", source))


def test_shutdown_messages_are_those_that_the_arbiter_logs() -> None:
    """The texts that ``run`` logs before a shutdown are those of ``SHUTDOWN_MESSAGES``."""
    found = texts(Arbiter.run)
    assert "Handling signal: %s" in found
    assert any(text.startswith("Unhandled exception in") for text in found)
    names = {text.removeprefix("Handling signal: ") for text in SHUTDOWN_MESSAGES if text.startswith("Handling")}
    assert names <= set(Arbiter.SIG_NAMES.values())
    assert all(text.startswith(OBSERVED_MESSAGES) for text in SHUTDOWN_MESSAGES)


def test_boot_exit_codes_are_those_of_the_arbiter() -> None:
    """The exit codes after which the server shuts down are the arbiter's constants."""
    assert (Arbiter.WORKER_BOOT_ERROR, Arbiter.APP_LOAD_ERROR) == BOOT_EXIT_CODES


def test_timeout_message_comes_before_the_abort() -> None:
    """``murder_workers`` logs the timeout, marks the worker as aborted, and then sends SIGABRT."""
    assert any(text.startswith(TIMEOUT_MESSAGE) for text in texts(Arbiter.murder_workers))
    source = inspect.getsource(Arbiter.murder_workers)
    assert source.index(TIMEOUT_MESSAGE) < source.index("aborted = True") < source.index("SIGABRT")


def test_stop_signals_are_handled_by_workers() -> None:
    """A worker has a handler for each signal with which it may be asked to exit."""
    handlers = inspect.getsource(Worker.init_signals)
    assert all(f"signal.{name}" in handlers for name in STOP_SIGNALS)
    assert all(hasattr(signal, name) for name in STOP_SIGNALS)


def test_live_worker_ages_are_those_in_workers(arbiter: Any, make_worker: Any) -> None:
    """The ages are those of the workers in ``WORKERS``."""
    arbiter.WORKERS = {PID: make_worker(SyncWorker)}
    assert live_worker_ages(arbiter) == {7}


def test_heartbeat_age_is_none_before_the_first_heartbeat_and_after_close(make_worker: Any) -> None:
    """The age is None before the first heartbeat and once the file is closed; else the seconds since the last one."""
    worker = make_worker(SyncWorker)
    assert heartbeat_age(worker) is None
    worker.tmp.notify()
    age = heartbeat_age(worker)
    assert age is not None
    assert 0.0 <= age < 10.0
    os.utime(worker.tmp.fileno(), (time.monotonic() - 5.0,) * 2)
    age = heartbeat_age(worker)
    assert age is not None
    assert 5.0 <= age < 15.0
    worker.tmp.close()
    assert heartbeat_age(worker) is None


def test_worker_capacity_depends_on_the_worker_class(make_worker: Any) -> None:
    """The capacity is 1, the threads, or worker_connections, by worker class; uvicorn's limit_concurrency; or None."""
    assert worker_capacity(make_worker(SyncWorker)) == 1.0
    assert worker_capacity(make_worker(ThreadWorker, threads=3)) == 3.0
    assert worker_capacity(make_worker(AsyncWorker, worker_connections=50)) == 50.0
    assert worker_capacity(make_worker(Worker)) is None
    assert worker_capacity(SimpleNamespace(config=SimpleNamespace(limit_concurrency=9))) == 9.0
    assert worker_capacity(SimpleNamespace(config=SimpleNamespace(limit_concurrency=None))) is None


def test_dirty_arbiter_pid_is_0_without_dirty_workers(arbiter: Any) -> None:
    """The pid is 0 without dirty workers, and where the attribute does not exist."""
    assert dirty_arbiter_pid(arbiter) == 0
    assert dirty_arbiter_pid(SimpleNamespace()) == 0
    assert hasattr(arbiter, "dirty_arbiter_pid") is (int(GUNICORN_VERSION.split(".")[0]) >= 25)
