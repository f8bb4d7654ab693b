"""The queue of log lines about worker exits."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from gunicorn_prom_hooks.master.exits import MAX_LINES
from tests.helpers.recorded_exits import (
    EXITED_AT,
    ExitBench,
    begin_requests,
    set_clocks,
)
from tests.unit.master.test_exits import EXITS


@pytest.mark.parametrize(
    ("now", "monotonic"),
    [
        (2000.0, EXITED_AT),
        (2020.0, EXITED_AT + 20.0),
        (2000.0, EXITED_AT + 20.0),
        (-3000.0, EXITED_AT),
        (1e9, EXITED_AT),
    ],
)
def test_age_of_a_request_is_as_of_the_exit(
    now: float, monotonic: float, bench: ExitBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late the exit is recorded, and however the wall clock is set, a request's age is that at the exit."""
    tracked = bench.add_worker()
    begin_requests(tracked, "/x")
    set_clocks(monkeypatch, now, monotonic)
    bench.record(tracked)
    assert bench.log.lines[0][1].endswith("in progress: GET /x (7.500 s)")


def test_lines_are_logged_by_write_log_lines_in_order_and_once(bench: ExitBench) -> None:
    """``record_exit`` queues the lines, and ``write_log_lines`` logs them, in order and once."""
    for age in (1, 2, 3):
        bench.exits.record_exit(bench.add_worker(age), EXITED_AT, reported=True)
    assert bench.log.lines == []
    bench.exits.write_log_lines()
    named = [line.split()[2] for _, line in bench.log.lines]
    assert named == ["worker_1_50", "worker_2_50", "worker_3_50"]
    bench.exits.write_log_lines()
    assert len(bench.log.lines) == 3


def test_queued_lines_are_bounded(bench: ExitBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the maximum the oldest lines are dropped."""
    monkeypatch.setattr(bench.exits, "_lines", deque(bench.exits._lines, 3))
    assert ExitBench().exits._lines.maxlen == MAX_LINES
    for age in range(1, 6):
        bench.exits.record_exit(bench.add_worker(age), EXITED_AT, reported=True)
    bench.exits.write_log_lines()
    assert [line.split()[2] for _, line in bench.log.lines] == ["worker_3_50", "worker_4_50", "worker_5_50"]


def test_exit_recorded_in_a_signal_handler_during_logging_is_logged_once(
    bench: ExitBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler records an exit and logs while a line is logged: each line is logged once."""
    bench.exits.record_exit(bench.add_worker(1), EXITED_AT, reported=True)
    bench.exits.record_exit(bench.add_worker(2), EXITED_AT, reported=True)
    later = iter([bench.add_worker(3)])
    error = bench.log.error

    def interrupted(*args: Any) -> None:
        error(*args)
        for tracked in later:
            bench.exits.record_exit(tracked, EXITED_AT, reported=True)
            bench.exits.write_log_lines()

    monkeypatch.setattr(bench.log, "error", interrupted)
    bench.exits.write_log_lines()
    named = [line.split()[2] for _, line in bench.log.lines]
    assert named == ["worker_1_50", "worker_2_50", "worker_3_50"]


class Broken:
    """A logger that always fails."""

    def warning(self, *args: object) -> None:
        """Raise."""
        raise OSError("the disk is full")

    error = warning


@pytest.mark.parametrize("log", [Broken(), object()])
@pytest.mark.parametrize("way", ["reload", "crash"])
def test_exit_is_counted_though_the_logger_fails(way: str, log: Any, bench: ExitBench) -> None:
    """A failing logger costs the line only; the failure is counted."""
    bench = ExitBench(log=log)
    tracked = bench.add_worker()
    begin_requests(tracked, "/x")
    assert EXITS[way].apply(bench, tracked) == EXITS[way].how
    assert bench.exit_stats.killed == {("GET", "/x", EXITS[way].how[0]): 1}
    assert sum(bench.exit_stats.lifetimes.counts) == 1.0
    assert bench.errors.counts == {"log": 1}
