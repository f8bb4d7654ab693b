"""The word that a worker leaves of why it leaves."""

from __future__ import annotations

import signal
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.settings import Settings
from gunicorn_prom_hooks.shm.layout import (
    CAUSE_MAX_REQUESTS,
    CAUSE_RELOADER,
    CAUSE_SIGNAL,
    CAUSE_UNCOUNTED,
    CAUSE_UNKNOWN,
    EXIT_CAUSE,
    EXIT_MARK,
    QUIT_AT,
)
from gunicorn_prom_hooks.shm.reader import SlotReader
from gunicorn_prom_hooks.shm.schema import DEFAULT_BUCKETS, EXPORTER_ERRORS
from gunicorn_prom_hooks.worker.worker import WorkerRuntime
from tests.helpers.forks import in_fork
from tests.helpers.recording import Recorded, new_slot

NEVER = sys.maxsize
"""gunicorn's max_requests of a worker that has none."""


def handle_quit(side: WorkerRuntime, sig: int) -> None:
    """Where gunicorn calls worker_int when a signal has come, by its name and that of its argument."""
    side.interrupted()


def handle_changed(side: WorkerRuntime, sig: int) -> None:
    """Where gunicorn's reloader calls worker_int."""
    side.interrupted()


def test_reloader_stops_no_worker_of_uvicorn() -> None:
    """It sets ``alive``, which uvicorn does not look at: the worker goes on to serve, and is not on its way out."""
    worker = type("UvicornWorker", (), {"__module__": "uvicorn_worker._workers"})()
    slot = new_slot()
    side = WorkerRuntime(worker, SlotReader(slot), Settings(), DEFAULT_BUCKETS.bounds, ErrorReporter())
    handle_changed(side, 0)
    assert slot.header[QUIT_AT] == 0.0
    handle_quit(side, signal.SIGINT)
    assert slot.header[QUIT_AT] > 0.0


def leave(worker: Any, sig: int | None = None) -> list[float]:
    """Has the worker leave after this signal, 0 being a changed file; the cells with its word."""
    slot = new_slot()
    side = WorkerRuntime(worker, SlotReader(slot), Settings(), DEFAULT_BUCKETS.bounds, ErrorReporter())
    if sig is not None:
        (handle_quit if sig else handle_changed)(side, sig)
    side.leaving()
    assert slot.header[QUIT_AT] > 0.0
    return [slot.header[EXIT_MARK], slot.header[EXIT_CAUSE]]


@pytest.mark.parametrize(
    ("nr", "max_requests", "alive", "sig", "cause"),
    [
        pytest.param(10, 10, False, None, CAUSE_MAX_REQUESTS, id="max_requests"),
        pytest.param(11, 10, False, None, CAUSE_MAX_REQUESTS, id="max_requests, one more"),
        pytest.param(10, 10, True, None, CAUSE_MAX_REQUESTS, id="max_requests, of another class"),
        pytest.param(10, 10, False, signal.SIGQUIT, CAUSE_MAX_REQUESTS, id="max_requests, and a signal"),
        pytest.param(10, 10, False, 0, CAUSE_MAX_REQUESTS, id="max_requests, and a changed file"),
        pytest.param(9, 10, False, None, CAUSE_SIGNAL + signal.SIGTERM, id="told, shortly before max_requests"),
        pytest.param(3, NEVER, False, None, CAUSE_SIGNAL + signal.SIGTERM, id="told"),
        pytest.param(0, 10, False, None, CAUSE_SIGNAL + signal.SIGTERM, id="told, before the first request"),
        pytest.param(3, NEVER, False, signal.SIGINT, CAUSE_SIGNAL + signal.SIGINT, id="SIGINT"),
        pytest.param(3, NEVER, False, signal.SIGQUIT, CAUSE_SIGNAL + signal.SIGQUIT, id="SIGQUIT"),
        pytest.param(0, 10, True, signal.SIGQUIT, CAUSE_SIGNAL + signal.SIGQUIT, id="SIGQUIT, uncounted"),
        pytest.param(3, NEVER, False, 0, CAUSE_RELOADER, id="reloader"),
        pytest.param(0, 10, True, 0, CAUSE_RELOADER, id="reloader, uncounted"),
        pytest.param(0, 10, True, None, CAUSE_UNCOUNTED, id="uncounted"),
        pytest.param(0, NEVER, True, None, CAUSE_UNKNOWN, id="none"),
        pytest.param(3, NEVER, True, None, CAUSE_UNKNOWN, id="none, but requests"),
        pytest.param(3, 10, True, None, CAUSE_UNKNOWN, id="none, and counted"),
    ],
)
def test_exit_cause_is_max_requests_before_signal_before_reloader(
    nr: int, max_requests: int, alive: bool, sig: int | None, cause: float
) -> None:
    """Enough requests are the reason before all others, then a signal or a changed file, then what is likely."""
    worker = SimpleNamespace(nr=nr, max_requests=max_requests, alive=alive, reloader=None)
    assert leave(worker, sig) == [1.0, cause]


@pytest.mark.parametrize(
    ("nr", "alive", "sig", "cause"),
    [
        pytest.param(3, False, None, CAUSE_RELOADER, id="its thread has not come to worker_int yet"),
        pytest.param(3, False, 0, CAUSE_RELOADER, id="its thread has"),
        pytest.param(3, False, signal.SIGQUIT, CAUSE_SIGNAL + signal.SIGQUIT, id="a signal"),
        pytest.param(10, False, None, CAUSE_MAX_REQUESTS, id="max_requests"),
        pytest.param(3, True, None, CAUSE_UNKNOWN, id="none"),
    ],
)
def test_exit_cause_without_a_known_reason_is_the_reloader_if_there_is_one(
    nr: int, alive: bool, sig: int | None, cause: float
) -> None:
    """Where gunicorn's reloader runs, it is what has told a worker to leave of which no hook knows why."""
    worker = SimpleNamespace(nr=nr, max_requests=10, alive=alive, reloader=object())
    assert leave(worker, sig) == [1.0, cause]


def test_failure_in_a_forked_process_is_not_written_into_the_slot() -> None:
    """The slot has one writer: a process that the worker has forked logs its failures and does not count them."""
    slot = new_slot()
    errors = ErrorReporter()
    worker: Any = SimpleNamespace(cfg=None)
    WorkerRuntime(worker, SlotReader(slot), Settings(), DEFAULT_BUCKETS.bounds, errors)
    before = bytes(slot.memory)
    assert in_fork(lambda: errors.report("app_metrics")) is None
    assert bytes(slot.memory) == before
    errors.report("app_metrics")
    assert bytes(slot.memory) != before


def test_failures_before_the_runtime_are_published_by_it() -> None:
    """What failed between the fork and the runtime is counted in the slot, and what the parent had counted is not."""
    slot = new_slot()
    errors = ErrorReporter()
    errors.report("parent")
    errors.unpublished.clear()
    for _ in range(2):
        errors.report("stacks")
    worker: Any = SimpleNamespace(cfg=None)
    WorkerRuntime(worker, SlotReader(slot), Settings(), DEFAULT_BUCKETS.bounds, errors)
    errors.publish_earlier()
    errors.publish_earlier()
    assert Recorded(slot=slot).counts(EXPORTER_ERRORS) == {("stacks",): 2.0}
