"""``WorkerExits``: each way in which a worker can exit, with a real slot."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from gunicorn_prom_hooks.master.exit_reason import MAX_ROUTINE
from gunicorn_prom_hooks.master.workers import TrackedWorker
from gunicorn_prom_hooks.model.exits import ExitReason
from gunicorn_prom_hooks.shm.layout import (
    CAUSE_MAX_REQUESTS,
    CAUSE_RELOADER,
    CAUSE_SIGNAL,
    CAUSE_UNCOUNTED,
    DIRECTORY_BYTES,
    EXIT_CAUSE,
    EXIT_MARK,
    INTERRUPTED_REQUEST,
    RUNNING_AT,
    RUNNING_CLOCK,
)
from tests.helpers.recorded_exits import (
    EXITED,
    EXITED_AT,
    FORKED_AT,
    FORKED_UNIX_TIME,
    KILLED,
    PID,
    STOP,
    ExitBench,
    answer_without_counting,
    begin_requests,
    mark_orderly,
)


class Exit:
    """One way to exit.

    Args:
        how: the expected reason and detail.
        level: of the log line; a plus: there is one even if no request was in progress.
        messages: what gunicorn logs.
        state: what the worker and the kernel leave behind.
    """

    def __init__(
        self, how: tuple[str, str], level: str, *messages: tuple[str, tuple[object, ...]], **state: Any
    ) -> None:
        self.how = how
        self.level = level.rstrip("+")
        self.is_always_logged = level.endswith("+")
        self.messages = messages
        self.state = state

    def apply(self, bench: ExitBench, tracked: TrackedWorker) -> tuple[str, str]:
        """Make the worker exit in this way, and record it; return reason and detail."""
        state = self.state
        if state.get("is_observing", True):
            bench.exits.exit_log.observe("Booting worker with pid: %s", (PID,))
        for text, args in self.messages:
            bench.exits.exit_log.observe(text, args)
        if "code" in state:
            mark_orderly(tracked, state["code"], state.get("cause", 0.0))
        tracked.stop_reason = state.get("stop_reason")
        tracked.worker.aborted = state.get("aborted", False)
        if not state.get("booted", True):
            tracked.lease.slot.header[RUNNING_AT] = 0.0
        bench.oom.kills = state.get("kills", 0)
        return bench.record(tracked, reported=state.get("reported", True))


EXITS = {
    "max_requests": Exit(("max_requests", "0"), "warning", code=0, cause=CAUSE_MAX_REQUESTS),
    "reload": Exit(("reload", "0"), "warning", code=0, stop_reason=ExitReason.RELOAD),
    "reload, by signal": Exit(
        ("reload", "SIGTERM"), "warning", (KILLED, (PID, "SIGTERM")), stop_reason=ExitReason.RELOAD
    ),
    "reloader": Exit(("reload", "0"), "warning", code=0, cause=CAUSE_RELOADER),
    "scale_down": Exit(("scale_down", "0"), "warning", code=0, stop_reason=ExitReason.SCALE_DOWN),
    "shutdown": Exit(("shutdown", "0"), "warning", STOP, code=0),
    "shutdown during a reload": Exit(("shutdown", "0"), "warning", STOP, code=0, stop_reason=ExitReason.RELOAD),
    "shutdown, killed": Exit(("shutdown", "SIGKILL"), "warning", STOP, (KILLED, (PID, "SIGKILL"))),
    "SIGTERM from another process": Exit(("signal", "SIGTERM"), "warning", code=0, cause=CAUSE_SIGNAL + signal.SIGTERM),
    "orderly, for no reason": Exit(("error", "0"), "error+", code=0),
    "max_requests, uncounted": Exit(("max_requests", "0"), "warning", code=0, cause=CAUSE_UNCOUNTED),
    "reload, uncounted": Exit(("reload", "0"), "warning", code=0, cause=CAUSE_UNCOUNTED, stop_reason=ExitReason.RELOAD),
    "timeout": Exit(("timeout", "SIGABRT"), "error+", (KILLED, (PID, "SIGABRT")), aborted=True),
    "timeout, orderly": Exit(("timeout", "SIGABRT"), "error+", aborted=True, code=0),
    "timeout, exit": Exit(("timeout", "SIGABRT"), "error+", (EXITED, (PID, 1)), aborted=True, code=1),
    "timeout, killed": Exit(("timeout", "SIGKILL"), "error+", (KILLED, (PID, "SIGKILL")), aborted=True, kills=1),
    "oom": Exit(("oom", "SIGKILL"), "error+", (KILLED, (PID, "SIGKILL")), kills=1),
    "oom at a shutdown": Exit(("oom", "SIGKILL"), "error+", STOP, (KILLED, (PID, "SIGKILL")), kills=1),
    "killed": Exit(("signal", "SIGKILL"), "error+", (KILLED + " Perhaps out of memory?", (PID, "SIGKILL"))),
    "killed during an orderly exit": Exit(
        ("signal", "SIGKILL"), "error+", (KILLED, (PID, "SIGKILL")), code=0, stop_reason=ExitReason.RELOAD
    ),
    "crash": Exit(("signal", "SIGSEGV"), "error+", (KILLED, (PID, "SIGSEGV")), stop_reason=ExitReason.RELOAD),
    "killed by SIGTERM from another process": Exit(("signal", "SIGTERM"), "error+", (KILLED, (PID, "SIGTERM"))),
    "error": Exit(("error", "1"), "error+", (EXITED, (PID, 1))),
    "error, orderly": Exit(("error", "7"), "error+", (EXITED, (PID, 7)), code=7, stop_reason=ExitReason.RELOAD),
    "error, not reported": Exit(("error", "7"), "error+", code=7, reported=False),
    "boot": Exit(("boot", "1"), "error+", (EXITED, (PID, 1)), booted=False),
    "boot, halts the server": Exit(("boot", "3"), "error+", (EXITED, (PID, 3)), booted=False, reported=False),
    "os._exit(0)": Exit(("error", "0"), "error+"),
    "no log": Exit(("error", "unknown"), "error+", is_observing=False),
    "no log, booting": Exit(("boot", "unknown"), "error+", is_observing=False, booted=False),
    "no log, orderly": Exit(("reload", "0"), "warning", is_observing=False, code=0, stop_reason=ExitReason.RELOAD),
    "no log, timeout": Exit(("timeout", "SIGABRT"), "error+", is_observing=False, aborted=True),
    "process is gone": Exit(("error", "unknown"), "error+", reported=False),
    "fork failed": Exit(("boot", "unknown"), "error+", reported=False, booted=False),
    "orderly, not reported": Exit(("reload", "0"), "warning", code=0, stop_reason=ExitReason.RELOAD, reported=False),
    "log of another worker": Exit(("error", "0"), "error+", (KILLED, (PID + 1, "SIGKILL"))),
}


@pytest.mark.parametrize("way", EXITS.values(), ids=EXITS)
def test_exit_without_requests_is_counted_and_logged_unless_expected(way: Exit, bench: ExitBench) -> None:
    """Each exit is counted once. An expected one is not logged; any other one is an error in the log."""
    tracked = bench.add_worker()
    assert way.apply(bench, tracked) == way.how
    line = (
        f"gunicorn_prom_hooks: worker worker_1_50 (pid:{PID}) exited: "
        f"{way.how[0]} ({way.how[1]}); no request in progress"
    )
    assert bench.log.lines == ([(way.level, line)] if way.is_always_logged else [])
    assert bench.exit_stats.killed == {}
    assert bench.errors.counts == {}


@pytest.mark.parametrize("way", EXITS.values(), ids=EXITS)
def test_exit_with_a_request_in_progress_counts_and_logs_it(way: Exit, bench: ExitBench) -> None:
    """The request is counted and logged: as a warning if the exit was expected, as an error if not."""
    tracked = bench.add_worker()
    begin_requests(tracked, "/items/7")
    assert way.apply(bench, tracked) == way.how
    line = (
        f"gunicorn_prom_hooks: worker worker_1_50 (pid:{PID}) exited: "
        f"{way.how[0]} ({way.how[1]}); in progress: GET /items/7 (7.500 s)"
    )
    assert bench.log.lines == [(way.level, line)]
    assert bench.exit_stats.killed == {("GET", "/items/:id", way.how[0]): 1}
    assert bench.errors.counts == {}


def test_lifetime_is_from_lease_to_exit(bench: ExitBench) -> None:
    """A lifetime is the time from the lease to the exit, and never negative."""
    bench.record(bench.add_worker())
    assert bench.exit_stats.lifetimes.seconds == EXITED_AT - FORKED_AT
    bench.exits.record_exit(bench.add_worker(2), FORKED_AT - 1.0, reported=True)
    assert bench.exit_stats.lifetimes.seconds == EXITED_AT - FORKED_AT
    assert sum(bench.exit_stats.lifetimes.counts) == 2.0


def test_log_message_about_an_exit_is_used_once(bench: ExitBench) -> None:
    """What gunicorn logged about a pid is not applied to a later worker with that pid."""
    bench.exits.exit_log.observe(KILLED, (PID, "SIGKILL"))
    assert bench.record(bench.add_worker()) == ("signal", "SIGKILL")
    assert bench.record(bench.add_worker()) == ("error", "0")


@pytest.mark.parametrize(("since", "how"), [(-60.0, ("signal", "SIGKILL")), (60.0, ("error", "0"))])
def test_log_message_from_before_the_lease_is_ignored(since: float, how: tuple[str, str], bench: ExitBench) -> None:
    """What gunicorn logged about a pid before the lease was about another process with that pid."""
    bench.exits.exit_log.observe(KILLED, (PID, "SIGKILL"))
    tracked = bench.add_worker()
    tracked.lease.since = time.monotonic() + since
    assert bench.record(tracked) == how


def test_shutdown_overrides_earlier_stop_reasons(bench: ExitBench) -> None:
    """All workers that exit after the server began to stop have the reason shutdown."""
    members = [bench.add_worker(age) for age in (1, 2, 3)]
    for tracked, stop_reason in zip(members, (None, ExitReason.RELOAD, ExitReason.SCALE_DOWN), strict=True):
        tracked.stop_reason = stop_reason
        mark_orderly(tracked)
    bench.exits.exit_log.observe(*STOP)
    assert [bench.record(tracked) for tracked in members] == [("shutdown", "0")] * 3
    assert bench.log.lines == []


def test_each_oom_kill_is_attributed_to_one_worker(bench: ExitBench) -> None:
    """Of two killed workers and one OOM kill, the worker that is recorded first has it."""
    bench.oom.kills = 1
    members = [bench.add_worker(age) for age in (1, 2)]
    for tracked in members:
        bench.exits.exit_log.observe(KILLED, (tracked.worker.pid, "SIGKILL"))
    assert [bench.record(tracked)[0] for tracked in members] == ["oom", "signal"]


def test_boot_time_is_observed_once(bench: ExitBench) -> None:
    """The boot time, from the lease on, is observed when the worker is first seen to have booted, and not again."""
    members = [bench.add_worker(1), bench.add_worker(2, booted=False)]
    for _ in range(3):
        bench.exits.observe(members)
    assert [tracked.booted for tracked in members] == [True, False]
    assert (sum(bench.exit_stats.boots.counts), bench.exit_stats.boots.seconds) == (1.0, 2.0)
    header = members[1].lease.slot.header
    header[RUNNING_CLOCK], header[RUNNING_AT] = FORKED_AT + 0.5, FORKED_UNIX_TIME - 3600.0
    bench.exits.observe(members)
    for tracked in members:
        bench.record(tracked)
    assert (sum(bench.exit_stats.boots.counts), bench.exit_stats.boots.seconds) == (2.0, 2.5)


def test_boot_is_observed_at_the_exit_at_the_latest(bench: ExitBench) -> None:
    """A worker that boots and exits between two calls of ``observe`` has booted."""
    tracked = bench.add_worker()
    bench.exits.exit_log.observe(EXITED, (PID, 1))
    assert bench.record(tracked) == ("error", "1")
    assert (sum(bench.exit_stats.boots.counts), bench.exit_stats.boots.seconds) == (1.0, 2.0)


def test_worker_that_exits_while_booting_has_no_boot_time(bench: ExitBench) -> None:
    """A worker that exits while it loads the application has no boot time."""
    bench.exits.exit_log.observe(EXITED, (PID, 1))
    assert bench.record(bench.add_worker(booted=False)) == ("boot", "1")
    assert sum(bench.exit_stats.boots.counts) == 0.0


def test_boot_time_and_reason_do_not_depend_on_the_wall_clock(bench: ExitBench) -> None:
    """The wall clock is set back while a worker boots: boot time and exit reason are right."""
    tracked = bench.add_worker()
    tracked.lease.slot.header[RUNNING_AT] = FORKED_UNIX_TIME - 3600.0
    tracked.lease.since = time.monotonic() - 60.0
    tracked.lease.slot.header[RUNNING_CLOCK] = tracked.lease.since + 2.0
    bench.exits.observe([tracked])
    assert (sum(bench.exit_stats.boots.counts), bench.exit_stats.boots.seconds) == (1.0, 2.0)
    bench.exits.exit_log.observe(KILLED, (PID, "SIGKILL"))
    assert bench.record(tracked) == ("signal", "SIGKILL")


def test_observe_updates_the_count_of_oom_kills(bench: ExitBench) -> None:
    """Each call updates the kernel's count, with or without workers."""
    bench.exits.observe([])
    bench.exits.observe([bench.add_worker()])
    assert bench.oom.updates == 2


@pytest.mark.parametrize("cell", [EXIT_MARK, EXIT_CAUSE, INTERRUPTED_REQUEST, DIRECTORY_BYTES])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -7.5, 1e300])
def test_exit_with_a_corrupt_slot_is_counted(cell: int, value: float, bench: ExitBench) -> None:
    """Garbage in the slot does not keep the exit from being counted."""
    tracked = bench.add_worker()
    answer_without_counting(bench, tracked)
    tracked.lease.slot.header[cell] = value
    bench.record(tracked)
    assert sum(bench.exit_stats.exits.values()) == 1
    assert sum(bench.exit_stats.restarts.values()) == 1


def test_record_of_an_exit_has_worker_time_reason_and_requests(bench: ExitBench) -> None:
    """A record has worker, time, reason and requests. Its clock is that of the requests."""
    tracked = bench.add_worker()
    begin_requests(tracked, "/a", "/b")
    bench.exits.exit_log.observe(KILLED, (PID, "SIGKILL"))
    bench.record(tracked)
    ((record,)) = bench.exit_stats.latest
    assert (record.when, record.clock, record.worker_id, record.pid) == (2000.0, EXITED_AT, "worker_1_50", PID)
    assert (record.reason, record.detail, record.others) == ("signal", "SIGKILL", 0)
    assert [(request.start, request.path) for request in record.requests] == [(100.0, "/a"), (101.0, "/b")]


def test_routine_exits_do_not_displace_a_crash(bench: ExitBench) -> None:
    """The record of a crash is kept after many expected exits."""
    bench.exits.exit_log.observe(KILLED, (PID, "SIGSEGV"))
    bench.record(bench.add_worker())
    for age in range(2, 40):
        tracked = bench.add_worker(age)
        mark_orderly(tracked)
        tracked.stop_reason = ExitReason.RELOAD
        bench.record(tracked)
    assert [record.detail for record in bench.exit_stats.latest].count("SIGSEGV") == 1
    assert len(bench.exit_stats.latest) == 1 + MAX_ROUTINE
