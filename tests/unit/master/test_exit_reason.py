"""The ledger of deaths: the verdict as a table, and what is added up of it."""

from __future__ import annotations

import itertools
import math
import signal
from dataclasses import replace

import pytest

from gunicorn_prom_hooks.master.exit_reason import (
    BOOT_BUCKETS,
    LIFETIME_BUCKETS,
    MAX_NEWS,
    MAX_REQUESTS,
    MAX_ROUTINE,
    Death,
    ExitStats,
    classify_exit,
)
from gunicorn_prom_hooks.model.exits import ExitReason, ExitRecord, Histogram
from gunicorn_prom_hooks.model.requests import InFlightRequest
from gunicorn_prom_hooks.shm.layout import (
    CAUSE_MAX_REQUESTS,
    CAUSE_RELOADER,
    CAUSE_SIGNAL,
    CAUSE_UNCOUNTED,
    CAUSE_UNKNOWN,
)


class Oom:
    """A kernel that killed for want of memory, or did not, and how often it was asked."""

    def __init__(self, answer: bool = False) -> None:
        self.answer = answer
        self.asked = 0

    def __call__(self) -> bool:
        """The answer."""
        self.asked += 1
        return self.answer


STOP_REASONS = (ExitReason.RELOAD, ExitReason.SCALE_DOWN, ExitReason.SHUTDOWN)


def orderly(
    stop_reason: ExitReason | None = None, cause: float = CAUSE_UNKNOWN, *, booted: bool = True, aborted: bool = False
) -> Death:
    """A worker that ran worker_exit and ended with 0."""
    return Death(end=0, orderly=True, stop_reason=stop_reason, cause=cause, booted=booted, aborted=aborted)


TABLE = [
    # max_requests: whatever else the master wanted of it
    (orderly(cause=CAUSE_MAX_REQUESTS), ("max_requests", "0")),
    (orderly(ExitReason.RELOAD, CAUSE_MAX_REQUESTS), ("max_requests", "0")),
    (orderly(ExitReason.SHUTDOWN, CAUSE_MAX_REQUESTS), ("max_requests", "0")),
    # a worker that left by itself and does not count for gunicorn: max_requests, unless the master wanted it to leave
    (orderly(cause=CAUSE_UNCOUNTED), ("max_requests", "0")),
    (orderly(cause=CAUSE_UNCOUNTED, booted=False), ("max_requests", "0")),
    *((orderly(stop_reason, CAUSE_UNCOUNTED), (stop_reason, "0")) for stop_reason in STOP_REASONS),
    (orderly(cause=CAUSE_UNCOUNTED, aborted=True), ("timeout", "SIGABRT")),
    (Death(end=0, cause=CAUSE_UNCOUNTED), ("error", "0")),
    (Death(end=1, orderly=True, cause=CAUSE_UNCOUNTED), ("error", "1")),
    (Death(end=None, orderly=True, cause=CAUSE_UNCOUNTED), ("error", "unknown")),
    (Death(end="SIGSEGV", orderly=True, cause=CAUSE_UNCOUNTED), ("signal", "SIGSEGV")),
    # what the master wanted: with an exit code of 0, or by the signal that it sends, where the worker did not catch it
    *((orderly(stop_reason), (stop_reason, "0")) for stop_reason in STOP_REASONS),
    (orderly(ExitReason.RELOAD, CAUSE_RELOADER), ("reload", "0")),
    (orderly(ExitReason.SCALE_DOWN, CAUSE_SIGNAL + signal.SIGTERM), ("scale_down", "0")),
    *(
        (Death(end=name, stop_reason=stop_reason), (stop_reason, name))
        for stop_reason in STOP_REASONS
        for name in ("SIGTERM", "SIGINT", "SIGQUIT")
    ),
    # gunicorn's own reloader
    (orderly(cause=CAUSE_RELOADER), ("reload", "0")),
    # at a shutdown gunicorn kills what does not leave; at other times somebody else did
    (Death(end="SIGKILL", stop_reason=ExitReason.SHUTDOWN), ("shutdown", "SIGKILL")),
    (Death(end="SIGKILL", stop_reason=ExitReason.RELOAD), ("signal", "SIGKILL")),
    (Death(end="SIGKILL", stop_reason=ExitReason.SCALE_DOWN), ("signal", "SIGKILL")),
    (Death(end="SIGKILL"), ("signal", "SIGKILL")),
    # no signal that asks it to leave: what it was told has nothing to do with it
    *((Death(end="SIGSEGV", stop_reason=stop_reason), ("signal", "SIGSEGV")) for stop_reason in (None, *STOP_REASONS)),
    (Death(end="SIGABRT", stop_reason=ExitReason.RELOAD), ("signal", "SIGABRT")),
    (Death(end="signal 35", stop_reason=ExitReason.SHUTDOWN), ("signal", "signal 35")),
    *((Death(end=name), ("signal", name)) for name in ("SIGTERM", "SIGINT", "SIGQUIT", "SIGABRT", "SIGBUS")),
    # a signal ended it: not a matter of having booted
    (Death(end="SIGSEGV", booted=False), ("signal", "SIGSEGV")),
    (Death(end="SIGTERM", booted=False, stop_reason=ExitReason.SHUTDOWN), ("shutdown", "SIGTERM")),
    # a signal that somebody sent told it to leave, and it did
    (orderly(cause=CAUSE_SIGNAL + signal.SIGTERM), ("signal", "SIGTERM")),
    (orderly(cause=CAUSE_SIGNAL + signal.SIGINT), ("signal", "SIGINT")),
    (orderly(cause=CAUSE_SIGNAL), ("signal", "unknown")),
    (orderly(cause=CAUSE_SIGNAL + 35), ("signal", "unknown")),
    # timeout: whatever became of the SIGABRT, and whatever else was wanted
    (Death(end="SIGABRT", aborted=True), ("timeout", "SIGABRT")),
    (Death(end="SIGKILL", aborted=True), ("timeout", "SIGKILL")),
    (Death(end="SIGSEGV", aborted=True), ("timeout", "SIGSEGV")),
    (Death(end=1, aborted=True, orderly=True), ("timeout", "SIGABRT")),
    (Death(end=None, aborted=True), ("timeout", "SIGABRT")),
    (Death(end="SIGKILL", aborted=True, stop_reason=ExitReason.SHUTDOWN), ("timeout", "SIGKILL")),
    (Death(end="SIGABRT", aborted=True, booted=False), ("timeout", "SIGABRT")),
    (orderly(ExitReason.RELOAD, aborted=True), ("timeout", "SIGABRT")),
    (orderly(cause=CAUSE_MAX_REQUESTS, aborted=True), ("timeout", "SIGABRT")),
    # error, or boot where the application was not loaded: an exit code that tells nothing better
    *(
        (Death(end=end, booted=booted), (reason, detail))
        for booted, reason in ((True, "error"), (False, "boot"))
        for end, detail in ((1, "1"), (3, "3"), (255, "255"), (0, "0"), (None, "unknown"))
    ),
    (orderly(), ("error", "0")),
    (orderly(booted=False), ("boot", "0")),
    (Death(end=0, stop_reason=ExitReason.RELOAD), ("error", "0")),
    (Death(end=0, cause=CAUSE_MAX_REQUESTS), ("error", "0")),
    (Death(end=0, cause=CAUSE_SIGNAL + signal.SIGTERM), ("error", "0")),
    (Death(end=1, orderly=True, stop_reason=ExitReason.SHUTDOWN), ("error", "1")),
    (Death(end=1, orderly=True, cause=CAUSE_MAX_REQUESTS), ("error", "1")),
    (Death(end=1, orderly=True, cause=CAUSE_SIGNAL + signal.SIGTERM), ("error", "1")),
    (Death(end=None, orderly=True, stop_reason=ExitReason.RELOAD), ("error", "unknown")),
    # an exit in good order is what it says, though nobody has seen the worker boot
    (orderly(ExitReason.SHUTDOWN, booted=False), ("shutdown", "0")),
    (orderly(cause=CAUSE_MAX_REQUESTS, booted=False), ("max_requests", "0")),
    (orderly(cause=CAUSE_SIGNAL + signal.SIGTERM, booted=False), ("signal", "SIGTERM")),
]


@pytest.mark.parametrize(("death", "how"), TABLE)
def test_verdicts(death: Death, how: tuple[str, str]) -> None:
    """Each end has its reason and detail; where the kernel has not killed, only a SIGKILL makes us ask it."""
    oom = Oom()
    assert classify_exit(death, oom) == how
    assert oom.asked == (death.end == "SIGKILL" and not death.aborted)


@pytest.mark.parametrize("stop_reason", [None, *STOP_REASONS])
@pytest.mark.parametrize("booted", [True, False])
def test_a_kill_of_the_kernels(stop_reason: ExitReason | None, booted: bool) -> None:
    """A SIGKILL that the kernel owns up to is oom, whatever the master wanted of the worker."""
    assert classify_exit(Death(end="SIGKILL", stop_reason=stop_reason, booted=booted), Oom(True)) == ("oom", "SIGKILL")


@pytest.mark.parametrize("death", [Death(end="SIGTERM"), Death(end=1), Death(end=None), orderly()])
def test_the_kernel_has_no_say_in_other_ends(death: Death) -> None:
    """A kill for want of memory is not given to a worker that ended in another way."""
    oom = Oom(True)
    assert classify_exit(death, oom)[0] != "oom"
    assert oom.asked == 0


def test_an_aborted_worker_takes_no_kill_of_the_kernels() -> None:
    """gunicorn's own SIGKILL of a worker that timed out leaves the kernel's kill to whom it belongs."""
    oom = Oom(True)
    assert classify_exit(Death(end="SIGKILL", aborted=True), oom) == ("timeout", "SIGKILL")
    assert oom.asked == 0


def test_every_end_has_a_reason() -> None:
    """Whatever is known of an end, its reason is one of the nine, its detail is not empty, and each reason occurs."""
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
        reason, detail = classify_exit(Death(end, aborted, booted, in_order, cause, stop_reason), oom)
        found.add(reason)
        assert detail
        assert (reason == "timeout") is aborted
        assert oom.asked == (end == "SIGKILL" and not aborted)
    assert found == set(ExitReason)


def new_exit_stats(oom: bool = False) -> ExitStats:
    """A ledger for which an endpoint is a path in capitals."""
    return ExitStats(Oom(oom), str.upper)


def test_series_that_are_there_from_the_beginning() -> None:
    """The usual ends and all coarse ones are 0 before the first death; each reason is among them, no request is."""
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
    ("death", "how", "coarse"),
    [
        (orderly(cause=CAUSE_MAX_REQUESTS), ("max_requests", "0"), "restart"),
        (orderly(ExitReason.RELOAD), ("reload", "0"), "restart"),
        (Death(end="SIGTERM", stop_reason=ExitReason.SCALE_DOWN), ("scale_down", "SIGTERM"), "restart"),
        (Death(end="SIGKILL", stop_reason=ExitReason.SHUTDOWN), ("shutdown", "SIGKILL"), "restart"),
        (orderly(cause=CAUSE_SIGNAL + signal.SIGTERM), ("signal", "SIGTERM"), "restart"),
        (orderly(), ("error", "0"), "restart"),
        (Death(end="SIGABRT", aborted=True), ("timeout", "SIGABRT"), "timeout"),
        (orderly(aborted=True), ("timeout", "SIGABRT"), "timeout"),
        (Death(end="SIGTERM"), ("signal", "SIGTERM"), "error"),
        (Death(end="SIGKILL"), ("signal", "SIGKILL"), "error"),
        (Death(end=1), ("error", "1"), "error"),
        (Death(end=1, orderly=True), ("error", "1"), "error"),
        (Death(end=0), ("error", "0"), "error"),
        (Death(end=None), ("error", "unknown"), "error"),
        (Death(end=1, booted=False), ("boot", "1"), "error"),
    ],
)
def test_an_end_counts_once_in_fine_and_in_coarse(death: Death, how: tuple[str, str], coarse: str) -> None:
    """Booking says the verdict and adds one to it, one to the coarser word, and nothing anywhere else."""
    exit_stats = new_exit_stats()
    assert exit_stats.book(death, []) == how
    assert exit_stats.book(death, ()) == how
    assert {which: count for which, count in exit_stats.exits.items() if count} == {how: 2}
    assert exit_stats.restarts == {"restart": 0, "timeout": 0, "error": 0, coarse: 2}
    assert exit_stats.killed == {}


def test_a_kernels_kill_is_booked_as_such() -> None:
    """The ledger asks its own oom, once per death, and counts the kill as an error."""
    exit_stats = new_exit_stats(oom=True)
    assert exit_stats.book(Death(end="SIGKILL", stop_reason=ExitReason.SHUTDOWN), []) == ("oom", "SIGKILL")
    assert exit_stats.exits[ExitReason.OOM, "SIGKILL"] == 1
    assert exit_stats.restarts["error"] == 1


def test_requests_that_went_down() -> None:
    """Killed requests are counted by method, endpoint as the callable makes it, and reason; unnamed ones as other."""
    exit_stats = new_exit_stats()
    exit_stats.book(Death(end="SIGSEGV"), [("GET", "/a"), ("POST", "/a"), ("GET", "/A")], unnamed=3)
    exit_stats.book(Death(end="SIGSEGV"), iter([("GET", "/a")]), unnamed=2)
    exit_stats.book(orderly(ExitReason.RELOAD), [("GET", "/a")])
    assert exit_stats.killed == {
        ("GET", "/A", "signal"): 3,
        ("POST", "/A", "signal"): 1,
        ("<other>", "<other>", "signal"): 5,
        ("GET", "/A", "reload"): 1,
    }


def test_lifetimes() -> None:
    """Each death adds the worker's age to the lifetimes, and nothing to the boots."""
    exit_stats = new_exit_stats()
    for seconds in (0.5, 30.0, 30.0, 1e7):
        exit_stats.book(Death(end=0, seconds=seconds), [])
    assert exit_stats.lifetimes.bounds == LIFETIME_BUCKETS
    assert exit_stats.lifetimes.counts == [1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    assert exit_stats.lifetimes.seconds == 10_000_060.5
    assert exit_stats.boots.bounds == BOOT_BUCKETS
    assert sum(exit_stats.boots.counts) == 0.0


@pytest.mark.parametrize("bounds", [BOOT_BUCKETS, LIFETIME_BUCKETS])
def test_a_bound_belongs_to_its_bucket(bounds: tuple[float, ...]) -> None:
    """A duration that equals a bound is in that bucket, the next larger number in the one after it."""
    assert list(bounds) == sorted(set(bounds))
    for number, bound in enumerate(bounds):
        for seconds, place in ((bound, number), (math.nextafter(bound, math.inf), number + 1)):
            histogram = Histogram(bounds)
            histogram.observe(seconds)
            assert histogram.counts == [float(at == place) for at in range(len(bounds) + 1)]
            assert histogram.seconds == seconds


@pytest.mark.parametrize(("seconds", "place"), [(0.0, 0), (1e300, -1)])
def test_the_ends_of_a_histogram(seconds: float, place: int) -> None:
    """Nothing is too short or too long to be counted."""
    histogram = Histogram(BOOT_BUCKETS)
    histogram.observe(seconds)
    histogram.observe(seconds)
    assert histogram.counts[place] == sum(histogram.counts) == 2.0
    assert histogram.seconds == 2 * seconds


def test_a_copy_of_the_books_stays_as_it_is() -> None:
    """A copy has all that is in the exit_stats, and nothing of what is booked or observed after it."""
    exit_stats = new_exit_stats()
    exit_stats.boots.observe(0.2)
    exit_stats.book(Death(end="SIGSEGV", seconds=5.0), [("GET", "/a")])
    books = exit_stats.copy()
    before = [dict(books.exits), dict(books.restarts), dict(books.killed)]
    assert before == [exit_stats.exits, exit_stats.restarts, exit_stats.killed]
    for durations, same in ((books.boots, exit_stats.boots), (books.lifetimes, exit_stats.lifetimes)):
        assert (durations.bounds, durations.counts, durations.seconds) == (same.bounds, same.counts, same.seconds)
    exit_stats.boots.observe(7.0)
    exit_stats.book(Death(end=77, seconds=90.0), [("GET", "/a"), ("PUT", "/b")])
    assert [books.exits, books.restarts, books.killed] == before
    assert (sum(books.boots.counts), books.boots.seconds) == (1.0, 0.2)
    assert (sum(books.lifetimes.counts), books.lifetimes.seconds) == (1.0, 5.0)


def record(number: int, requests: int = 1) -> ExitRecord:
    """The death of the worker of this number, at that time."""
    interrupted_requests = [InFlightRequest(float(at), "GET", "/x") for at in range(requests)]
    return ExitRecord(
        float(number), float(number), f"worker_{number}", number, ExitReason.SIGNAL, "SIGKILL", interrupted_requests, 0
    )


def test_the_latest_deaths() -> None:
    """So many are remembered, the last one first, and ordinary ones do not push out those that are news."""
    exit_stats = new_exit_stats()
    for number in range(0, 60, 2):
        exit_stats.remember(record(number), news=True)
    for number in range(1, 2000, 2):
        exit_stats.remember(record(number), news=False)
    pids = [death.pid for death in exit_stats.latest]
    assert pids == [*range(1999, 1999 - 2 * MAX_ROUTINE, -2), *range(58, 58 - 2 * MAX_NEWS, -2)]


def test_a_death_with_many_requests() -> None:
    """The oldest ones are remembered, and the number of the others."""
    exit_stats = new_exit_stats()
    exit_stats.remember(replace(record(1, MAX_REQUESTS + 5), others=2), news=True)
    ((death,)) = exit_stats.latest
    assert [request.start for request in death.requests] == list(range(MAX_REQUESTS))
    assert death.others == 7


def test_a_copy_keeps_the_latest_deaths_as_they_were() -> None:
    """A death after the copy is not in it."""
    exit_stats = new_exit_stats()
    exit_stats.remember(record(1), news=True)
    copy = exit_stats.copy()
    exit_stats.remember(record(2), news=True)
    assert [death.pid for death in copy.latest] == [1]
