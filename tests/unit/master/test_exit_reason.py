"""The classification of exits as a table, and the counts of exits."""

from __future__ import annotations

import itertools
import math
import signal
from dataclasses import replace

import pytest

from gunicorn_prom_hooks.master.exit_reason import (
    BOOT_BUCKETS,
    LIFETIME_BUCKETS,
    MAX_NOTABLE,
    MAX_REQUESTS,
    MAX_ROUTINE,
    ExitFacts,
    ExitStats,
    classify_exit,
)
from gunicorn_prom_hooks.model.counts import InFlightRequest
from gunicorn_prom_hooks.model.exits import ExitReason, ExitRecord, Histogram
from gunicorn_prom_hooks.shm.layout import (
    CAUSE_MAX_REQUESTS,
    CAUSE_RELOADER,
    CAUSE_SIGNAL,
    CAUSE_UNCOUNTED,
    CAUSE_UNKNOWN,
)


class Oom:
    """Takes the place of ``OomKills``: gives one answer, and counts how often it was asked."""

    def __init__(self, answer: bool = False) -> None:
        self.answer = answer
        self.asked = 0

    def claim(self) -> bool:
        """Return the answer."""
        self.asked += 1
        return self.answer


STOP_REASONS = (ExitReason.RELOAD, ExitReason.SCALE_DOWN, ExitReason.SHUTDOWN)


def orderly(
    stop_reason: ExitReason | None = None, cause: float = CAUSE_UNKNOWN, *, booted: bool = True, aborted: bool = False
) -> ExitFacts:
    """Return the facts of a worker that ran worker_exit and exited with 0."""
    return ExitFacts(status=0, orderly=True, stop_reason=stop_reason, cause=cause, booted=booted, aborted=aborted)


TABLE = [
    # max_requests: also if the master wanted the worker to exit
    (orderly(cause=CAUSE_MAX_REQUESTS), ("max_requests", "0")),
    (orderly(ExitReason.RELOAD, CAUSE_MAX_REQUESTS), ("max_requests", "0")),
    (orderly(ExitReason.SHUTDOWN, CAUSE_MAX_REQUESTS), ("max_requests", "0")),
    # an exit of a class that does not count requests for gunicorn: max_requests, unless the master wanted the exit
    (orderly(cause=CAUSE_UNCOUNTED), ("max_requests", "0")),
    (orderly(cause=CAUSE_UNCOUNTED, booted=False), ("max_requests", "0")),
    *((orderly(stop_reason, CAUSE_UNCOUNTED), (stop_reason, "0")) for stop_reason in STOP_REASONS),
    (orderly(cause=CAUSE_UNCOUNTED, aborted=True), ("timeout", "SIGABRT")),
    (ExitFacts(status=0, cause=CAUSE_UNCOUNTED), ("error", "0")),
    (ExitFacts(status=1, orderly=True, cause=CAUSE_UNCOUNTED), ("error", "1")),
    (ExitFacts(status=None, orderly=True, cause=CAUSE_UNCOUNTED), ("error", "unknown")),
    (ExitFacts(status="SIGSEGV", orderly=True, cause=CAUSE_UNCOUNTED), ("signal", "SIGSEGV")),
    # what the master wanted: exit code 0, or the signal that it sends, if the worker did not catch it
    *((orderly(stop_reason), (stop_reason, "0")) for stop_reason in STOP_REASONS),
    (orderly(ExitReason.RELOAD, CAUSE_RELOADER), ("reload", "0")),
    (orderly(ExitReason.SCALE_DOWN, CAUSE_SIGNAL + signal.SIGTERM), ("scale_down", "0")),
    *(
        (ExitFacts(status=name, stop_reason=stop_reason), (stop_reason, name))
        for stop_reason in STOP_REASONS
        for name in ("SIGTERM", "SIGINT", "SIGQUIT")
    ),
    # gunicorn's own reloader
    (orderly(cause=CAUSE_RELOADER), ("reload", "0")),
    # gunicorn kills workers only at the end of a shutdown
    (ExitFacts(status="SIGKILL", stop_reason=ExitReason.SHUTDOWN), ("shutdown", "SIGKILL")),
    (ExitFacts(status="SIGKILL", stop_reason=ExitReason.RELOAD), ("signal", "SIGKILL")),
    (ExitFacts(status="SIGKILL", stop_reason=ExitReason.SCALE_DOWN), ("signal", "SIGKILL")),
    (ExitFacts(status="SIGKILL"), ("signal", "SIGKILL")),
    # other signals: independent of what the master wanted
    *(
        (ExitFacts(status="SIGSEGV", stop_reason=stop_reason), ("signal", "SIGSEGV"))
        for stop_reason in (None, *STOP_REASONS)
    ),
    (ExitFacts(status="SIGABRT", stop_reason=ExitReason.RELOAD), ("signal", "SIGABRT")),
    (ExitFacts(status="signal 35", stop_reason=ExitReason.SHUTDOWN), ("signal", "signal 35")),
    *((ExitFacts(status=name), ("signal", name)) for name in ("SIGTERM", "SIGINT", "SIGQUIT", "SIGABRT", "SIGBUS")),
    # killed by a signal: independent of having booted
    (ExitFacts(status="SIGSEGV", booted=False), ("signal", "SIGSEGV")),
    (ExitFacts(status="SIGTERM", booted=False, stop_reason=ExitReason.SHUTDOWN), ("shutdown", "SIGTERM")),
    # an orderly exit after a signal from another process
    (orderly(cause=CAUSE_SIGNAL + signal.SIGTERM), ("signal", "SIGTERM")),
    (orderly(cause=CAUSE_SIGNAL + signal.SIGINT), ("signal", "SIGINT")),
    (orderly(cause=CAUSE_SIGNAL), ("signal", "unknown")),
    (orderly(cause=CAUSE_SIGNAL + 35), ("signal", "unknown")),
    # SIGABRT of another process: the worker's handler exits with a code
    (orderly(cause=CAUSE_SIGNAL + signal.SIGABRT), ("signal", "SIGABRT")),
    (orderly(ExitReason.RELOAD, CAUSE_SIGNAL + signal.SIGABRT), ("signal", "SIGABRT")),
    (ExitFacts(status=1, orderly=True, cause=CAUSE_SIGNAL + signal.SIGABRT), ("signal", "SIGABRT")),
    # timeout: whatever the SIGABRT led to, and whatever the master wanted
    (ExitFacts(status="SIGABRT", aborted=True), ("timeout", "SIGABRT")),
    (ExitFacts(status="SIGKILL", aborted=True), ("timeout", "SIGKILL")),
    (ExitFacts(status="SIGSEGV", aborted=True), ("timeout", "SIGSEGV")),
    (ExitFacts(status=1, aborted=True, orderly=True), ("timeout", "SIGABRT")),
    (ExitFacts(status=None, aborted=True), ("timeout", "SIGABRT")),
    (ExitFacts(status="SIGKILL", aborted=True, stop_reason=ExitReason.SHUTDOWN), ("timeout", "SIGKILL")),
    (ExitFacts(status="SIGABRT", aborted=True, booted=False), ("timeout", "SIGABRT")),
    (orderly(ExitReason.RELOAD, aborted=True), ("timeout", "SIGABRT")),
    (orderly(cause=CAUSE_MAX_REQUESTS, aborted=True), ("timeout", "SIGABRT")),
    # error, or boot if the application was not loaded: all other exit codes
    *(
        (ExitFacts(status=end, booted=booted), (reason, detail))
        for booted, reason in ((True, "error"), (False, "boot"))
        for end, detail in ((1, "1"), (3, "3"), (255, "255"), (0, "0"), (None, "unknown"))
    ),
    (orderly(), ("error", "0")),
    (orderly(booted=False), ("boot", "0")),
    (ExitFacts(status=0, stop_reason=ExitReason.RELOAD), ("error", "0")),
    (ExitFacts(status=0, cause=CAUSE_MAX_REQUESTS), ("error", "0")),
    (ExitFacts(status=0, cause=CAUSE_SIGNAL + signal.SIGTERM), ("error", "0")),
    (ExitFacts(status=1, orderly=True, stop_reason=ExitReason.SHUTDOWN), ("error", "1")),
    (ExitFacts(status=1, orderly=True, cause=CAUSE_MAX_REQUESTS), ("error", "1")),
    (ExitFacts(status=1, orderly=True, cause=CAUSE_SIGNAL + signal.SIGTERM), ("error", "1")),
    (ExitFacts(status=None, orderly=True, stop_reason=ExitReason.RELOAD), ("error", "unknown")),
    # an orderly exit is classified by its cause also if the worker was not seen to boot
    (orderly(ExitReason.SHUTDOWN, booted=False), ("shutdown", "0")),
    (orderly(cause=CAUSE_MAX_REQUESTS, booted=False), ("max_requests", "0")),
    (orderly(cause=CAUSE_SIGNAL + signal.SIGTERM, booted=False), ("signal", "SIGTERM")),
]


@pytest.mark.parametrize(("facts", "how"), TABLE)
def test_each_exit_has_its_reason_and_detail(facts: ExitFacts, how: tuple[str, str]) -> None:
    """Each exit has its reason and detail. OomKills is asked only after a SIGKILL."""
    oom = Oom()
    assert classify_exit(facts, oom) == how
    assert oom.asked == (facts.status == "SIGKILL" and not facts.aborted)


@pytest.mark.parametrize("stop_reason", [None, *STOP_REASONS])
@pytest.mark.parametrize("booted", [True, False])
def test_sigkill_by_the_oom_killer_has_the_reason_oom(stop_reason: ExitReason | None, booted: bool) -> None:
    """A SIGKILL that is an OOM kill has the reason oom, whatever the master wanted."""
    assert classify_exit(ExitFacts(status="SIGKILL", stop_reason=stop_reason, booted=booted), Oom(True)) == (
        "oom",
        "SIGKILL",
    )


@pytest.mark.parametrize("facts", [ExitFacts(status="SIGTERM"), ExitFacts(status=1), ExitFacts(status=None), orderly()])
def test_oom_kill_is_not_claimed_for_other_exits(facts: ExitFacts) -> None:
    """A worker that exited in another way does not get an OOM kill."""
    oom = Oom(True)
    assert classify_exit(facts, oom)[0] != "oom"
    assert oom.asked == 0


def test_oom_kill_is_not_claimed_after_a_timeout() -> None:
    """gunicorn's own SIGKILL after a timeout claims no OOM kill."""
    oom = Oom(True)
    assert classify_exit(ExitFacts(status="SIGKILL", aborted=True), oom) == ("timeout", "SIGKILL")
    assert oom.asked == 0


def test_every_combination_of_facts_has_a_reason() -> None:
    """For any facts there is a reason and a detail, and each reason occurs."""
    found = set()
    for end, stop_reason, cause, answer, *flags in itertools.product(
        ("SIGKILL", "SIGTERM", "signal 35", 0, 1, None),
        (None, *STOP_REASONS),
        (
            CAUSE_UNKNOWN,
            CAUSE_MAX_REQUESTS,
            CAUSE_RELOADER,
            CAUSE_UNCOUNTED,
            7.0,
            CAUSE_SIGNAL,
            CAUSE_SIGNAL + 2.0,
            1e9,
        ),
        *((False, True),) * 4,
    ):
        aborted, booted, in_order = flags
        oom = Oom(answer)
        reason, detail = classify_exit(ExitFacts(end, aborted, booted, in_order, cause, stop_reason), oom)
        found.add(reason)
        assert detail
        assert (reason == "timeout") is aborted
        assert oom.asked == (end == "SIGKILL" and not aborted)
    assert found == set(ExitReason)


def new_exit_stats(oom: bool = False) -> ExitStats:
    """Return stats without exits."""
    return ExitStats(Oom(oom), 20)


def test_usual_exits_are_zero_at_the_start() -> None:
    """The usual exits and all coarse ones are 0 from the start, at least one per reason. There is no killed request."""
    exit_stats = new_exit_stats()
    assert exit_stats.exits == {
        ("max_requests", "0"): 0,
        ("reload", "0"): 0,
        ("scale_down", "0"): 0,
        ("shutdown", "0"): 0,
        ("shutdown", "SIGKILL"): 0,
        ("timeout", "SIGABRT"): 0,
        ("timeout", "SIGKILL"): 0,
        ("oom", "SIGKILL"): 0,
        ("error", "1"): 0,
        ("boot", "1"): 0,
        ("signal", "SIGKILL"): 0,
        ("signal", "SIGSEGV"): 0,
        ("signal", "SIGTERM"): 0,
    }
    assert {reason for reason, _ in exit_stats.exits} == set(ExitReason)
    assert exit_stats.restarts == {"restart": 0, "timeout": 0, "error": 0}
    assert exit_stats.killed == {}
    for histogram in (exit_stats.boots, exit_stats.lifetimes):
        assert (sum(histogram.counts), histogram.seconds) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("facts", "how", "coarse"),
    [
        (orderly(cause=CAUSE_MAX_REQUESTS), ("max_requests", "0"), "restart"),
        (orderly(ExitReason.RELOAD), ("reload", "0"), "restart"),
        (ExitFacts(status="SIGTERM", stop_reason=ExitReason.SCALE_DOWN), ("scale_down", "SIGTERM"), "restart"),
        (ExitFacts(status="SIGKILL", stop_reason=ExitReason.SHUTDOWN), ("shutdown", "SIGKILL"), "restart"),
        (orderly(cause=CAUSE_SIGNAL + signal.SIGTERM), ("signal", "SIGTERM"), "restart"),
        (orderly(), ("error", "0"), "restart"),
        (ExitFacts(status="SIGABRT", aborted=True), ("timeout", "SIGABRT"), "timeout"),
        (orderly(aborted=True), ("timeout", "SIGABRT"), "timeout"),
        (ExitFacts(status="SIGTERM"), ("signal", "SIGTERM"), "error"),
        (ExitFacts(status="SIGKILL"), ("signal", "SIGKILL"), "error"),
        (ExitFacts(status=1), ("error", "1"), "error"),
        (ExitFacts(status=1, orderly=True), ("error", "1"), "error"),
        (ExitFacts(status=0), ("error", "0"), "error"),
        (ExitFacts(status=None), ("error", "unknown"), "error"),
        (ExitFacts(status=1, booted=False), ("boot", "1"), "error"),
    ],
)
def test_exit_is_counted_by_reason_and_by_coarse_reason(facts: ExitFacts, how: tuple[str, str], coarse: str) -> None:
    """``count`` returns reason and detail, and adds one to each of the two counts and nothing else."""
    exit_stats = new_exit_stats()
    assert exit_stats.count(facts, []) == how
    assert exit_stats.count(facts, ()) == how
    assert {which: count for which, count in exit_stats.exits.items() if count} == {how: 2}
    assert exit_stats.restarts == {"restart": 0, "timeout": 0, "error": 0, coarse: 2}
    assert exit_stats.killed == {}


def test_oom_kill_is_counted() -> None:
    """``count`` asks OomKills once per exit, and counts an OOM kill as an error."""
    exit_stats = new_exit_stats(oom=True)
    assert exit_stats.count(ExitFacts(status="SIGKILL", stop_reason=ExitReason.SHUTDOWN), []) == ("oom", "SIGKILL")
    assert exit_stats.exits[ExitReason.OOM, "SIGKILL"] == 1
    assert exit_stats.restarts["error"] == 1


def test_killed_requests_are_counted_by_method_endpoint_and_reason() -> None:
    """Killed requests are counted by method, endpoint and reason; untracked ones as other."""
    exit_stats = new_exit_stats()
    exit_stats.count(
        ExitFacts(status="SIGSEGV"), [("GET", "/items/1"), ("POST", "/items/1"), ("GET", "/items/2")], untracked=3
    )
    exit_stats.count(ExitFacts(status="SIGSEGV"), iter([("GET", "/items/3")]), untracked=2)
    exit_stats.count(orderly(ExitReason.RELOAD), [("GET", "/items/4")])
    assert exit_stats.killed == {
        ("GET", "/items/:id", "signal"): 3,
        ("POST", "/items/:id", "signal"): 1,
        ("<other>", "<other>", "signal"): 5,
        ("GET", "/items/:id", "reload"): 1,
    }


def test_lifetime_is_observed_at_each_exit() -> None:
    """Each exit adds the worker's lifetime, and no boot time."""
    exit_stats = new_exit_stats()
    for seconds in (0.5, 30.0, 30.0, 1e7):
        exit_stats.count(ExitFacts(status=0, lifetime=seconds), [])
    assert exit_stats.lifetimes.bounds == LIFETIME_BUCKETS
    assert exit_stats.lifetimes.counts == [1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    assert exit_stats.lifetimes.seconds == 10_000_060.5
    assert exit_stats.boots.bounds == BOOT_BUCKETS
    assert sum(exit_stats.boots.counts) == 0.0


@pytest.mark.parametrize("bounds", [BOOT_BUCKETS, LIFETIME_BUCKETS])
def test_duration_equal_to_a_bound_is_in_its_bucket(bounds: tuple[float, ...]) -> None:
    """A duration equal to a bound is in that bucket, the next larger number in the next one."""
    assert list(bounds) == sorted(set(bounds))
    for number, bound in enumerate(bounds):
        for seconds, place in ((bound, number), (math.nextafter(bound, math.inf), number + 1)):
            histogram = Histogram(bounds)
            histogram.observe(seconds)
            assert histogram.counts == [float(at == place) for at in range(len(bounds) + 1)]
            assert histogram.seconds == seconds


@pytest.mark.parametrize(("seconds", "place"), [(0.0, 0), (1e300, -1)])
def test_durations_of_0_and_beyond_all_bounds_are_counted(seconds: float, place: int) -> None:
    """Durations of any length are counted."""
    histogram = Histogram(BOOT_BUCKETS)
    histogram.observe(seconds)
    histogram.observe(seconds)
    assert histogram.counts[place] == sum(histogram.counts) == 2.0
    assert histogram.seconds == 2 * seconds


def test_snapshot_is_a_copy() -> None:
    """A snapshot has all counts, and does not change with later exits."""
    exit_stats = new_exit_stats()
    exit_stats.boots.observe(0.2)
    exit_stats.count(ExitFacts(status="SIGSEGV", lifetime=5.0), [("GET", "/a")])
    copied = exit_stats.snapshot()
    before = [dict(copied.exits), dict(copied.restarts), dict(copied.killed)]
    assert before == [exit_stats.exits, exit_stats.restarts, exit_stats.killed]
    for durations, same in ((copied.boots, exit_stats.boots), (copied.lifetimes, exit_stats.lifetimes)):
        assert (durations.bounds, durations.counts, durations.seconds) == (same.bounds, same.counts, same.seconds)
    exit_stats.boots.observe(7.0)
    exit_stats.count(ExitFacts(status=77, lifetime=90.0), [("GET", "/a"), ("PUT", "/b")])
    assert [copied.exits, copied.restarts, copied.killed] == before
    assert (sum(copied.boots.counts), copied.boots.seconds) == (1.0, 0.2)
    assert (sum(copied.lifetimes.counts), copied.lifetimes.seconds) == (1.0, 5.0)


def record(number: int, requests: int = 1) -> ExitRecord:
    """Return the record of the exit of the worker with this number, at that time."""
    interrupted_requests = [InFlightRequest(float(at), "GET", "/x") for at in range(requests)]
    return ExitRecord(
        float(number), float(number), f"worker_{number}", number, ExitReason.SIGNAL, "SIGKILL", interrupted_requests, 0
    )


def test_latest_exits_are_newest_first_and_keep_notable_ones() -> None:
    """The latest ones are kept, newest first. Routine ones do not displace notable ones."""
    exit_stats = new_exit_stats()
    for number in range(0, 60, 2):
        exit_stats.keep(record(number), notable=True)
    for number in range(1, 2000, 2):
        exit_stats.keep(record(number), notable=False)
    pids = [record.pid for record in exit_stats.latest]
    assert pids == [*range(1999, 1999 - 2 * MAX_ROUTINE, -2), *range(58, 58 - 2 * MAX_NOTABLE, -2)]


def test_record_keeps_the_oldest_requests_and_the_number_of_others() -> None:
    """The oldest requests are kept, and the number of the others."""
    exit_stats = new_exit_stats()
    exit_stats.keep(replace(record(1, MAX_REQUESTS + 5), others=3), notable=True)
    ((facts,)) = exit_stats.latest
    assert [request.start for request in facts.requests] == list(range(MAX_REQUESTS))
    assert facts.others == 8


def test_snapshot_keeps_the_latest_exits() -> None:
    """A later exit is not in an earlier snapshot."""
    exit_stats = new_exit_stats()
    exit_stats.keep(record(1), notable=True)
    copy = exit_stats.snapshot()
    exit_stats.keep(record(2), notable=True)
    assert [record.pid for record in copy.latest] == [1]


def test_buckets_and_limits_are_the_published_ones() -> None:
    """The bounds are those of docs/metrics.md, and so many exits and requests are kept."""
    assert BOOT_BUCKETS == (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
    assert LIFETIME_BUCKETS == (1, 10, 60, 300, 1800, 3600, 21600, 86400, 604800)
    assert (MAX_NOTABLE, MAX_ROUTINE, MAX_REQUESTS) == (20, 5, 10)


def test_endpoints_of_killed_requests_beyond_the_limit_are_other() -> None:
    """So many endpoints have a series of their own; the first ones keep it, and a later limit holds from then on."""
    exit_stats = ExitStats(Oom(False), 2)
    facts = ExitFacts(status="SIGSEGV")
    exit_stats.count(facts, [("GET", path) for path in ("/a", "/b", "/c", "/d", "/a")])
    exit_stats.limit_endpoints(3)
    exit_stats.count(facts, [("GET", path) for path in ("/e", "/f", "/b")])
    found = {endpoint: count for (_, endpoint, _), count in exit_stats.killed.items()}
    assert found == {"/a": 2, "/b": 2, "<other>": 3, "/e": 1}


def test_series_that_are_there_at_the_start_are_as_old_as_the_server() -> None:
    """The series of usual exits have no time of their own, and a lifetime that is not known is 0."""
    exit_stats = new_exit_stats()
    since = exit_stats.snapshot().since
    assert set(since.values()) == {0.0}
    exit_stats.count(ExitFacts(status="SIGUSR1"), [])
    assert exit_stats.snapshot().since["signal", "SIGUSR1"] > 0.0
    assert exit_stats.lifetimes.seconds == 0.0
