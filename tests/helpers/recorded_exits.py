"""``WorkerExits`` with real slots, and workers that leave something in them."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.master import workers
from gunicorn_prom_hooks.master.exit_reason import ExitStats
from gunicorn_prom_hooks.master.exits import WorkerExits
from gunicorn_prom_hooks.master.workers import TrackedWorker
from gunicorn_prom_hooks.shm.allocator import SlotAllocator
from gunicorn_prom_hooks.shm.layout import (
    EXIT_CAUSE,
    EXIT_MARK,
    EXPECTED_COUNT,
    INFLIGHT_ENTRIES,
    RUNNING_AT,
    RUNNING_CLOCK,
)
from gunicorn_prom_hooks.shm.schema import COUNTS, REQUESTS
from gunicorn_prom_hooks.shm.slot import inflight_start
from gunicorn_prom_hooks.shm.stack_file import StackFile
from gunicorn_prom_hooks.worker.recording.event_loop_hooks import many_at_a_time
from gunicorn_prom_hooks.worker.recording.recorder import Recorder
from gunicorn_prom_hooks.worker.recording.sync_hooks import one_at_a_time
from tests.helpers.recording import GET, handled, new_slot, totals
from tests.helpers.tracked_workers import Worker

FORKED_AT, EXITED_AT = 50.0, 107.5
"""Monotonic seconds."""
FORKED_UNIX_TIME = 1000.0
PID = 4711
KILLED = "Worker (pid:%s) was sent %s!"
EXITED = "Worker (pid:%s) exited with code %s."
STOP = ("Handling signal: %s", ("term",))


class FakeOomKills:
    """Takes the place of ``OomKills``: the kernel has killed as many workers as the test sets."""

    kills = 0

    def __init__(self) -> None:
        self.updates = 0

    def update(self) -> None:
        """Count the call."""
        self.updates += 1

    def claim(self) -> bool:
        """Return whether a kill is left, and take it."""
        self.kills -= 1
        return self.kills >= 0


class Log:
    """gunicorn's logger, by level and text."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def warning(self, text: str, *args: object) -> None:
        """Keep the line."""
        self.lines.append(("warning", text % args))

    def error(self, text: str, *args: object, **kwargs: object) -> None:
        """Keep the line."""
        self.lines.append(("error", text % args))


class ExitBench:
    """``WorkerExits`` of a master, and slots for its workers."""

    def __init__(self, max_endpoints: int = 200, log: Any = None) -> None:
        self.log = Log() if log is None else log
        self.errors = ErrorReporter()
        self.exits = WorkerExits(self.log, self.errors, max_endpoints, StackFile())
        self.allocator = SlotAllocator(new_slot)

    @property
    def exit_stats(self) -> ExitStats:
        """Return the counts."""
        return self.exits.exit_stats

    @property
    def oom(self) -> Any:
        """Return the ``FakeOomKills``."""
        return self.exits.oom

    def add_worker(self, age: int = 1, *, booted: bool = True) -> TrackedWorker:
        """Return a new worker that was forked at FORKED_AT and has loaded the application two seconds later."""
        lease = self.allocator.lease(age, FORKED_UNIX_TIME)
        lease.since = FORKED_AT
        if booted:
            lease.slot.header[RUNNING_CLOCK] = FORKED_AT + 2.0
            lease.slot.header[RUNNING_AT] = FORKED_UNIX_TIME + 2.0
        return TrackedWorker(Worker(age, PID + age - 1), f"worker_{age}_50", lease)

    def record(self, tracked: TrackedWorker, *, reported: bool = True) -> tuple[str, str]:
        """Record an exit at EXITED_AT and log its lines. Return the one reason and detail that it has counted."""
        before = Counter(self.exit_stats.exits)
        self.exits.record_exit(tracked, EXITED_AT, reported=reported)
        self.exits.write_log_lines()
        ((how, count),) = (Counter(self.exit_stats.exits) - before).items()
        assert count == 1
        return how

    def counted(self) -> dict[tuple[str, ...], float]:
        """Return the requests that all slots have counted, by labels."""
        series = totals(self.allocator).series(REQUESTS.number)
        return {labels[:3]: sum(cells[COUNTS]) for labels, cells in series.items() if any(cells[COUNTS])}


def set_clocks(monkeypatch: pytest.MonkeyPatch, now: float, monotonic: float) -> None:
    """Set the wall clock and the monotonic clock."""
    monkeypatch.setattr(workers, "time", SimpleNamespace(monotonic=lambda: monotonic, time=lambda: now))


def begin_requests(tracked: TrackedWorker, *paths: str) -> None:
    """Begin a request to each path in the worker, one second after the other from 100.0 on, and end none."""
    slot, errors = tracked.lease.slot, ErrorReporter()
    pre_request, _ = many_at_a_time(Recorder(slot, 200), None, errors)
    starts = {number for number in range(INFLIGHT_ENTRIES) if slot.words[inflight_start(number)] > 0.0}
    kept = []
    for second, path in enumerate(paths):
        kept.append(SimpleNamespace(method="GET", path=path))  # known by its id, which no other may have
        pre_request(None, kept[-1])
        for number in range(INFLIGHT_ENTRIES):
            if number not in starts and slot.words[inflight_start(number)] > 0.0:
                starts.add(number)
                slot.words[inflight_start(number)] = 100.0 + second
    assert errors.counts == {}


def mark_orderly(tracked: TrackedWorker, code: int = 0, cause: float = 0.0) -> None:
    """Mark an orderly exit in the worker's slot, with this exit code."""
    tracked.lease.slot.header[EXIT_MARK] = 1.0 + code
    tracked.lease.slot.header[EXIT_CAUSE] = cause


def answer_without_counting(bench: ExitBench, tracked: TrackedWorker) -> None:
    """Answer a request in the worker, up to and without the store that counts it."""
    slot = tracked.lease.slot
    pre_request, post_request = one_at_a_time(Recorder(slot, 200), None, bench.errors)
    request, environ, response = handled(GET % b"/x")
    pre_request(None, request)
    post_request(None, request, environ, response)
    at = inflight_start(INFLIGHT_ENTRIES - 1)
    cell = int(-slot.words[at])
    assert slot.words[cell] == slot.words[at + EXPECTED_COUNT] == 1.0
    slot.words[cell] = 0.0
