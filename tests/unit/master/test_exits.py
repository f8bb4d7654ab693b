"""What is done about a worker's death: a real slot, what its worker left in it, and the entries made of that."""

from __future__ import annotations

import signal
import time
from collections import Counter, deque
from types import SimpleNamespace
from typing import Any

import pytest
from greenlet import GreenletExit  # type: ignore[import-untyped]

from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.master import exits as deaths
from gunicorn_prom_hooks.master import workers
from gunicorn_prom_hooks.master.exit_reason import MAX_ROUTINE, ExitStats
from gunicorn_prom_hooks.master.exits import MAX_LINES, WorkerExits
from gunicorn_prom_hooks.master.workers import TrackedWorker
from gunicorn_prom_hooks.shm.allocator import SlotAllocator
from gunicorn_prom_hooks.shm.layout import (
    CAUSE_MAX_REQUESTS,
    CAUSE_RELOADER,
    CAUSE_SIGNAL,
    CAUSE_UNCOUNTED,
    DIRECTORY_BYTES,
    EXIT_CAUSE,
    EXIT_MARK,
    EXPECTED_COUNT,
    INFLIGHT_ENTRIES,
    INTERRUPTED_REQUEST,
    RUNNING_AT,
    RUNNING_CLOCK,
)
from gunicorn_prom_hooks.shm.schema import COUNTS, REQUESTS
from gunicorn_prom_hooks.shm.slot import inflight_start
from gunicorn_prom_hooks.shm.stack_file import Stacks
from gunicorn_prom_hooks.worker.recording.event_loop_hooks import many_at_a_time
from gunicorn_prom_hooks.worker.recording.recorder import Recorder
from gunicorn_prom_hooks.worker.recording.sync_hooks import one_at_a_time
from tests.helpers.recording import GET, handled, interruption, new_slot, totals
from tests.helpers.tracked_workers import Worker

SINCE, GONE = 50.0, 107.5
"""On the monotonic clock; the wall clock shows WALL."""
WALL = 1000.0
PID = 4711


class Kernel:
    """Who says whether a kill was for want of memory."""

    kills = 0

    def __init__(self) -> None:
        self.looks = 0

    def look(self) -> None:
        """Counts it."""
        self.looks += 1

    def claim(self) -> bool:
        """Hands out a kill."""
        self.kills -= 1
        return self.kills >= 0


class Log:
    """gunicorn's logger, by level and text."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def warning(self, text: str, *args: object) -> None:
        """Keeps it."""
        self.lines.append(("warning", text % args))

    def error(self, text: str, *args: object, **kwargs: object) -> None:
        """Keeps it."""
        self.lines.append(("error", text % args))


class House:
    """A master's books, and slots for its workers."""

    def __init__(self, max_endpoints: int = 200, log: Any = None) -> None:
        self.log = Log() if log is None else log
        self.errors = ErrorReporter()
        self.deaths = WorkerExits(self.log, self.errors, max_endpoints, Stacks())
        self.leases = SlotAllocator(new_slot)

    @property
    def ledger(self) -> ExitStats:
        """The ledger."""
        return self.deaths.ledger

    @property
    def kernel(self) -> Any:
        """What is asked of kills."""
        return self.deaths.oom

    def hire(self, age: int = 1, *, booted: bool = True) -> TrackedWorker:
        """A new worker that was forked at SINCE and, two seconds later, has loaded the application."""
        lease = self.leases.take(age, WALL)
        lease.since = SINCE
        if booted:
            lease.slot.header[RUNNING_CLOCK], lease.slot.header[RUNNING_AT] = SINCE + 2.0, WALL + 2.0
        return TrackedWorker(Worker(age, PID + age - 1), f"worker_{age}_50", lease)

    def bury(self, member: TrackedWorker, *, reported: bool = True) -> tuple[str, str]:
        """Has its end booked, at GONE, and told; the one reason and detail that this has counted."""
        before = Counter(self.ledger.exits)
        self.deaths.ended(member, GONE, reported=reported)
        self.deaths.tell()
        ((how, count),) = (Counter(self.ledger.exits) - before).items()
        assert count == 1
        return how

    def counted(self) -> dict[tuple[str, ...], float]:
        """Requests by labels that all slots have counted."""
        series = totals(self.leases).series(REQUESTS.number)
        return {labels[:3]: sum(cells[COUNTS]) for labels, cells in series.items() if any(cells[COUNTS])}


def it_is(monkeypatch: pytest.MonkeyPatch, now: float, monotonic: float) -> None:
    """Sets both clocks."""
    monkeypatch.setattr(workers, "time", SimpleNamespace(monotonic=lambda: monotonic, time=lambda: now))


@pytest.fixture(autouse=True)
def at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel and the clocks are the test's: it is GONE, and 2000 on the wall clock."""
    monkeypatch.setattr(deaths, "OomKills", Kernel)
    it_is(monkeypatch, 2000.0, GONE)


@pytest.fixture
def house() -> House:
    """Books in which there is nothing yet."""
    return House()


def leave_in_flight(member: TrackedWorker, *paths: str) -> None:
    """Has the worker begin these requests, one second after the other from 100.0 on, and end none."""
    slot, errors = member.lease.slot, ErrorReporter()
    pre_request, _ = many_at_a_time(Recorder(slot, 200), None, errors)
    starts = {number for number in range(INFLIGHT_ENTRIES) if slot.words[inflight_start(number)] > 0.0}
    kept = []
    for second, path in enumerate(paths):
        kept.append(SimpleNamespace(method="GET", path=path))  # known by its id, which nobody else may have
        pre_request(None, kept[-1])
        for number in range(INFLIGHT_ENTRIES):
            if number not in starts and slot.words[inflight_start(number)] > 0.0:
                starts.add(number)
                slot.words[inflight_start(number)] = 100.0 + second
    assert errors.counts == {}


def left(member: TrackedWorker, code: int = 0, cause: float = 0.0) -> None:
    """The worker's word that it leaves in good order, with this exit code."""
    member.lease.slot.header[EXIT_MARK] = 1.0 + code
    member.lease.slot.header[EXIT_CAUSE] = cause


KILLED = "Worker (pid:%s) was sent %s!"
EXITED = "Worker (pid:%s) exited with code %s."


class End:
    """One way to end.

    Args:
        how: reason and detail it is to be booked under.
        level: of the log line; a plus: also if no request went down with the worker.
        said: what gunicorn logs.
    """

    def __init__(self, how: tuple[str, str], level: str, *said: tuple[str, tuple[object, ...]], **state: Any) -> None:
        self.how = how
        self.level = level.rstrip("+")
        self.always = level.endswith("+")
        self.said = said
        self.state = state

    def befall(self, house: House, member: TrackedWorker) -> tuple[str, str]:
        """Has it happen, and booked."""
        state = self.state
        if state.get("listening", True):
            house.deaths.ends.listen("Booting worker with pid: %s", (PID,))
        for text, args in self.said:
            house.deaths.ends.listen(text, args)
        if "code" in state:
            left(member, state["code"], state.get("cause", 0.0))
        member.stop_reason = state.get("stop_reason", "")
        member.worker.aborted = state.get("aborted", False)
        if not state.get("booted", True):
            member.lease.slot.header[RUNNING_AT] = 0.0
        house.kernel.kills = state.get("kills", 0)
        return house.bury(member, reported=state.get("reported", True))


STOP = ("Handling signal: %s", ("term",))
ENDS = {
    "max_requests": End(("max_requests", "0"), "warning", code=0, cause=CAUSE_MAX_REQUESTS),
    "reload": End(("reload", "0"), "warning", code=0, stop_reason="reload"),
    "reload, in a signal": End(("reload", "SIGTERM"), "warning", (KILLED, (PID, "SIGTERM")), stop_reason="reload"),
    "reloader": End(("reload", "0"), "warning", code=0, cause=CAUSE_RELOADER),
    "scale_down": End(("scale_down", "0"), "warning", code=0, stop_reason="scale_down"),
    "shutdown": End(("shutdown", "0"), "warning", STOP, code=0),
    "shutdown of what is told to go": End(("shutdown", "0"), "warning", STOP, code=0, stop_reason="reload"),
    "shutdown, killed": End(("shutdown", "SIGKILL"), "warning", STOP, (KILLED, (PID, "SIGKILL"))),
    "told by a stranger": End(("signal", "SIGTERM"), "warning", code=0, cause=CAUSE_SIGNAL + signal.SIGTERM),
    "for no reason": End(("error", "0"), "error+", code=0),
    "max_requests, uncounted": End(("max_requests", "0"), "warning", code=0, cause=CAUSE_UNCOUNTED),
    "uncounted, stop_reason": End(("reload", "0"), "warning", code=0, cause=CAUSE_UNCOUNTED, stop_reason="reload"),
    "timeout": End(("timeout", "SIGABRT"), "error+", (KILLED, (PID, "SIGABRT")), aborted=True),
    "timeout, in good order": End(("timeout", "SIGABRT"), "error+", aborted=True, code=0),
    "timeout, exit": End(("timeout", "SIGABRT"), "error+", (EXITED, (PID, 1)), aborted=True, code=1),
    "timeout, killed": End(("timeout", "SIGKILL"), "error+", (KILLED, (PID, "SIGKILL")), aborted=True, kills=1),
    "oom": End(("oom", "SIGKILL"), "error+", (KILLED, (PID, "SIGKILL")), kills=1),
    "oom at a shutdown": End(("oom", "SIGKILL"), "error+", STOP, (KILLED, (PID, "SIGKILL")), kills=1),
    "killed": End(("signal", "SIGKILL"), "error+", (KILLED + " Perhaps out of memory?", (PID, "SIGKILL"))),
    "killed on its way out": End(
        ("signal", "SIGKILL"), "error+", (KILLED, (PID, "SIGKILL")), code=0, stop_reason="reload"
    ),
    "crash": End(("signal", "SIGSEGV"), "error+", (KILLED, (PID, "SIGSEGV")), stop_reason="reload"),
    "killed by a stranger": End(("signal", "SIGTERM"), "error+", (KILLED, (PID, "SIGTERM"))),
    "error": End(("error", "1"), "error+", (EXITED, (PID, 1))),
    "error, in good order": End(("error", "7"), "error+", (EXITED, (PID, 7)), code=7, stop_reason="reload"),
    "error that nobody told": End(("error", "7"), "error+", code=7, reported=False),
    "boot": End(("boot", "1"), "error+", (EXITED, (PID, 1)), booted=False),
    "boot, halts the server": End(("boot", "3"), "error+", (EXITED, (PID, 3)), booted=False, reported=False),
    "os._exit(0)": End(("error", "0"), "error+"),
    "nobody listens": End(("error", "unknown"), "error+", listening=False),
    "nobody listens, booting": End(("boot", "unknown"), "error+", listening=False, booted=False),
    "nobody listens, in good order": End(("reload", "0"), "warning", listening=False, code=0, stop_reason="reload"),
    "nobody listens, timeout": End(("timeout", "SIGABRT"), "error+", listening=False, aborted=True),
    "just not there any more": End(("error", "unknown"), "error+", reported=False),
    "never there": End(("boot", "unknown"), "error+", reported=False, booted=False),
    "in good order, not told": End(("reload", "0"), "warning", code=0, stop_reason="reload", reported=False),
    "another one's end": End(("error", "0"), "error+", (KILLED, (PID + 1, "SIGKILL"))),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_an_end_without_requests(end: End, house: House) -> None:
    """The reason is booked once; what was to be expected is no news, and anything else is an error in the log."""
    member = house.hire()
    assert end.befall(house, member) == end.how
    line = (
        f"gunicorn_prom_hooks: worker worker_1_50 (pid:{PID}) ended: "
        f"{end.how[0]} ({end.how[1]}), in the middle of no request"
    )
    assert house.log.lines == ([(end.level, line)] if end.always else [])
    assert house.ledger.killed == {}
    assert house.errors.counts == {}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_an_end_in_the_middle_of_a_request(end: End, house: House) -> None:
    """A request that went down is booked and in the log: a warning if the end was expected, an error if not."""
    member = house.hire()
    leave_in_flight(member, "/items/7")
    assert end.befall(house, member) == end.how
    line = (
        f"gunicorn_prom_hooks: worker worker_1_50 (pid:{PID}) ended: "
        f"{end.how[0]} ({end.how[1]}), in the middle of GET /items/7 (7.500 s in flight)"
    )
    assert house.log.lines == [(end.level, line)]
    assert house.ledger.killed == {("GET", "/items/:id", end.how[0]): 1}
    assert house.errors.counts == {}


def test_lifetimes(house: House) -> None:
    """A worker's life is from its lease to its end, never less than nothing."""
    house.bury(house.hire())
    assert house.ledger.lifetimes.seconds == GONE - SINCE
    house.deaths.ended(house.hire(2), SINCE - 1.0, reported=True)
    assert house.ledger.lifetimes.seconds == GONE - SINCE
    assert sum(house.ledger.lifetimes.counts) == 2.0


def test_several_requests_and_some_without_a_name(house: House) -> None:
    """More requests than the in-flight table holds are all booked: those in it by name, the others as other."""
    member = house.hire()
    leave_in_flight(member, *[f"/items/{number}" for number in range(INFLIGHT_ENTRIES)], *["/lost"] * 3)
    house.bury(member)
    assert house.ledger.killed == {
        ("GET", "/items/:id", "error"): INFLIGHT_ENTRIES,
        ("<other>", "<other>", "error"): 3,
    }
    ((level, line),) = house.log.lines
    assert level == "error"
    assert line.endswith(
        "in the middle of GET /items/0 (7.500 s in flight), GET /items/1 (6.500 s in flight), "
        f"GET /items/2 (5.500 s in flight), {INFLIGHT_ENTRIES} other requests"
    )


def test_a_request_without_a_name_alone_is_news(house: House) -> None:
    """An expected end that took only requests without a name is a warning, too."""
    member = house.hire()
    leave_in_flight(member, *["/x"] * (INFLIGHT_ENTRIES + 1))
    for number in range(INFLIGHT_ENTRIES):
        member.lease.slot.words[inflight_start(number)] = 0.0
    ENDS["reload"].befall(house, member)
    assert house.ledger.killed == {("<other>", "<other>", "reload"): 1}
    assert [level for level, _ in house.log.lines] == ["warning"]
    assert house.log.lines[0][1].endswith("in the middle of 1 other request")


def test_a_request_that_the_master_knows_by_number(house: House) -> None:
    """A request to a path that the worker has had before is named, though the master never looked."""
    member = house.hire()
    pre_request, post_request = one_at_a_time(Recorder(member.lease.slot, 200), None, house.errors)
    request, environ, response = handled(GET % b"/items/7")
    pre_request(None, request)
    post_request(None, request, environ, response)
    pre_request(None, request)
    house.bury(member)
    assert house.ledger.killed == {("GET", "/items/:id", "error"): 1}
    assert "in the middle of GET /items/7 (" in house.log.lines[0][1]


def test_endpoints_are_capped(house: House) -> None:
    """So many endpoints as max_endpoints get a name, over all deaths; those past it are other, until it is raised."""
    house = House(max_endpoints=2)
    for age, paths in enumerate([("/a/1", "/b"), ("/c", "/a/2"), ("/d", "/b")], start=1):
        member = house.hire(age)
        leave_in_flight(member, *paths)
        house.bury(member)
    named = {("GET", "/a/:id", "error"): 2, ("GET", "/b", "error"): 2}
    assert house.ledger.killed == {**named, ("GET", "<other>", "error"): 2}
    house.deaths.limit_endpoints(3)
    member = house.hire(4)
    leave_in_flight(member, "/e", "/f")
    house.bury(member)
    assert house.ledger.killed == {**named, ("GET", "/e", "error"): 1, ("GET", "<other>", "error"): 3}


@pytest.mark.parametrize(
    "path", ["/\xff\xfe", "/\x1b[2J\n\u202e", "/%s%d%1b", "/1" * 500, "/" + "x" * 5000, "/" + "\xe9" * 300]
)
def test_paths_of_every_kind(path: str, house: House) -> None:
    """Whatever path a request had, its label is one of the page's and its line is one."""
    member = house.hire()
    leave_in_flight(member, path)
    house.bury(member)
    (((_, endpoint, _), count),) = house.ledger.killed.items()
    assert count == 1
    assert 0 < len(endpoint.encode()) <= 256
    assert house.log.lines[0][1].isprintable()


def killed_before_the_last_store(house: House, member: TrackedWorker) -> None:
    """Has the worker answer a request, and be killed right before the store that counts it."""
    slot = member.lease.slot
    pre_request, post_request = one_at_a_time(Recorder(slot, 200), None, house.errors)
    request, environ, response = handled(GET % b"/x")
    pre_request(None, request)
    post_request(None, request, environ, response)
    at = inflight_start(INFLIGHT_ENTRIES - 1)
    cell = int(-slot.words[at])
    assert slot.words[cell] == slot.words[at + EXPECTED_COUNT] == 1.0
    slot.words[cell] = 0.0


@pytest.mark.parametrize("scraped", [False, True])
def test_a_request_that_was_answered_is_counted(scraped: bool, house: House) -> None:
    """A worker killed before the very last store of a request: it is counted, once, and is not one that went down."""
    member = house.hire()
    killed_before_the_last_store(house, member)
    if scraped:
        assert house.counted() == {}
    house.bury(member)
    assert house.counted() == {("GET", "/x", "200"): 1.0}
    assert house.ledger.killed == {}
    house.deaths.ended(member, GONE, reported=True)
    assert house.counted() == {("GET", "/x", "200"): 1.0}


@pytest.mark.parametrize(("handler", "reason"), [("handle_abort", "timeout"), ("handle_quit", "error")])
def test_a_request_that_the_workers_own_end_ended(handler: str, reason: str, house: House) -> None:
    """A request that gunicorn's signal handler broke off was recorded, and went down with its worker all the same."""
    member = house.hire()
    pre_request, post_request = one_at_a_time(Recorder(member.lease.slot, 200), None, house.errors)
    request, environ, response = handled(GET % b"/x")
    pre_request(None, request)
    try:
        raise interruption(handler)
    except SystemExit:
        post_request(None, request, environ, response)
    member.worker.aborted = handler == "handle_abort"
    left(member, 1)
    house.bury(member)
    assert house.ledger.killed == {("GET", "/x", reason): 1}
    assert "in the middle of GET /x (" in house.log.lines[0][1]


def test_an_end_is_used_once(house: House) -> None:
    """What gunicorn has logged of a pid is not that of a later worker with the same one."""
    house.deaths.ends.listen(KILLED, (PID, "SIGKILL"))
    assert house.bury(house.hire()) == ("signal", "SIGKILL")
    assert house.bury(house.hire()) == ("error", "0")


@pytest.mark.parametrize(("since", "how"), [(-60.0, ("signal", "SIGKILL")), (60.0, ("error", "0"))])
def test_an_end_from_before_the_lease(since: float, how: tuple[str, str], house: House) -> None:
    """What gunicorn logged of a pid before this worker had its slot was of another process with that pid."""
    house.deaths.ends.listen(KILLED, (PID, "SIGKILL"))
    member = house.hire()
    member.lease.since = time.monotonic() + since
    assert house.bury(member) == how


@pytest.mark.parametrize(
    ("now", "monotonic"), [(2000.0, GONE), (2020.0, GONE + 20.0), (2000.0, GONE + 20.0), (-3000.0, GONE), (1e9, GONE)]
)
def test_seconds_in_flight_are_as_of_the_death(
    now: float, monotonic: float, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long after the death it is booked, and however the wall clock is set, a request ran until then."""
    member = house.hire()
    leave_in_flight(member, "/x")
    it_is(monkeypatch, now, monotonic)
    house.bury(member)
    assert house.log.lines[0][1].endswith("in the middle of GET /x (7.500 s in flight)")


def test_nothing_is_logged_until_it_is_told(house: House) -> None:
    """Booking queues the lines, and telling logs them, in order and once."""
    for age in (1, 2, 3):
        house.deaths.ended(house.hire(age), GONE, reported=True)
    assert house.log.lines == []
    house.deaths.tell()
    stop_reason = [line.split()[2] for _, line in house.log.lines]
    assert stop_reason == ["worker_1_50", "worker_2_50", "worker_3_50"]
    house.deaths.tell()
    assert len(house.log.lines) == 3


def test_lines_that_nobody_tells_are_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more deaths than are kept the latest are told."""
    monkeypatch.setattr(house.deaths, "_lines", deque(house.deaths._lines, 3))
    assert House().deaths._lines.maxlen == MAX_LINES
    for age in range(1, 6):
        house.deaths.ended(house.hire(age), GONE, reported=True)
    house.deaths.tell()
    assert [line.split()[2] for _, line in house.log.lines] == ["worker_3_50", "worker_4_50", "worker_5_50"]


def test_a_death_in_the_middle_of_telling(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler that books a death, and tells, while a line is logged: each line is logged once."""
    house.deaths.ended(house.hire(1), GONE, reported=True)
    house.deaths.ended(house.hire(2), GONE, reported=True)
    later = iter([house.hire(3)])
    error = house.log.error

    def interrupted(*args: Any) -> None:
        error(*args)
        for member in later:
            house.deaths.ended(member, GONE, reported=True)
            house.deaths.tell()

    monkeypatch.setattr(house.log, "error", interrupted)
    house.deaths.tell()
    stop_reason = [line.split()[2] for _, line in house.log.lines]
    assert stop_reason == ["worker_1_50", "worker_2_50", "worker_3_50"]


@pytest.mark.parametrize("error", [interruption("handle_abort"), GreenletExit()])
def test_a_request_that_a_gevent_worker_cuts_off(error: BaseException, house: House) -> None:
    """A request that the worker's own end ended without an answer went down with it, and is counted nowhere else."""
    member = house.hire()
    worker = SimpleNamespace(alive=True)
    pre_request, post_request = many_at_a_time(Recorder(member.lease.slot, 200), None, house.errors)
    request, environ, response = handled(GET % b"/x")
    pre_request(worker, request)
    worker.alive = False
    try:
        raise error
    except (SystemExit, GreenletExit):
        post_request(worker, request, environ, response)
    left(member)
    member.stop_reason = "reload"
    assert house.bury(member) == ("reload", "0")
    assert house.ledger.killed == {("GET", "/x", "reload"): 1}
    assert house.counted() == {}
    assert [level for level, _ in house.log.lines] == ["warning"]


def test_a_shutdown_is_for_all(house: House) -> None:
    """Whatever they were told before, workers that leave once the server stops are part of the shutdown."""
    members = [house.hire(age) for age in (1, 2, 3)]
    for member, stop_reason in zip(members, ("", "reload", "scale_down"), strict=True):
        member.stop_reason = stop_reason
        left(member)
    house.deaths.ends.listen(*STOP)
    assert [house.bury(member) for member in members] == [("shutdown", "0")] * 3
    assert house.log.lines == []


def test_each_kernels_kill_is_one_workers(house: House) -> None:
    """Of two killed workers and one kill of the kernel's, the first to be booked has it."""
    house.kernel.kills = 1
    members = [house.hire(age) for age in (1, 2)]
    for member in members:
        house.deaths.ends.listen(KILLED, (member.worker.pid, "SIGKILL"))
    assert [house.bury(member)[0] for member in members] == ["oom", "signal"]


class Broken:
    """A logger that fails."""

    def warning(self, *args: object) -> None:
        """Fails."""
        raise OSError("the disk is full")

    error = warning


@pytest.mark.parametrize("log", [Broken(), object()])
@pytest.mark.parametrize("end", ["reload", "crash"])
def test_a_logger_that_fails(end: str, log: Any) -> None:
    """The entry is in the books though the log cannot have it; the failure is counted."""
    house = House(log=log)
    member = house.hire()
    leave_in_flight(member, "/x")
    assert ENDS[end].befall(house, member) == ENDS[end].how
    assert house.ledger.killed == {("GET", "/x", ENDS[end].how[0]): 1}
    assert sum(house.ledger.lifetimes.counts) == 1.0
    assert house.errors.counts == {"log": 1}


def test_boots_are_observed_once(house: House) -> None:
    """The first look that finds a worker booted takes its time, from its lease on; no other look or end does."""
    members = [house.hire(1), house.hire(2, booted=False)]
    for _ in range(3):
        house.deaths.look(members)
    assert [member.booted for member in members] == [True, False]
    assert (sum(house.ledger.boots.counts), house.ledger.boots.seconds) == (1.0, 2.0)
    header = members[1].lease.slot.header
    header[RUNNING_CLOCK], header[RUNNING_AT] = SINCE + 0.5, WALL - 3600.0
    house.deaths.look(members)
    for member in members:
        house.bury(member)
    assert (sum(house.ledger.boots.counts), house.ledger.boots.seconds) == (2.0, 2.5)


def test_a_boot_that_nobody_looked_at(house: House) -> None:
    """A worker that booted and died between two looks has booted: its time is taken, and its end is no boot failure."""
    member = house.hire()
    house.deaths.ends.listen(EXITED, (PID, 1))
    assert house.bury(member) == ("error", "1")
    assert (sum(house.ledger.boots.counts), house.ledger.boots.seconds) == (1.0, 2.0)


def test_a_worker_that_never_booted(house: House) -> None:
    """A worker that died while it loaded the application has no boot time."""
    house.deaths.ends.listen(EXITED, (PID, 1))
    assert house.bury(house.hire(booted=False)) == ("boot", "1")
    assert sum(house.ledger.boots.counts) == 0.0


def test_a_clock_that_was_set_back(house: House) -> None:
    """The wall clock is set while a worker boots: the time that it took is what it took, and its end is what it was."""
    member = house.hire()
    member.lease.slot.header[RUNNING_AT] = WALL - 3600.0
    member.lease.since = time.monotonic() - 60.0
    member.lease.slot.header[RUNNING_CLOCK] = member.lease.since + 2.0
    house.deaths.look([member])
    assert (sum(house.ledger.boots.counts), house.ledger.boots.seconds) == (1.0, 2.0)
    house.deaths.ends.listen(KILLED, (PID, "SIGKILL"))
    assert house.bury(member) == ("signal", "SIGKILL")


def test_each_look_looks_at_the_kernels_count(house: House) -> None:
    """Every look has the kernel's count looked at, workers or none."""
    house.deaths.look([])
    house.deaths.look([house.hire()])
    assert house.kernel.looks == 2


@pytest.mark.parametrize("cell", [EXIT_MARK, EXIT_CAUSE, INTERRUPTED_REQUEST, DIRECTORY_BYTES])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -7.5, 1e300])
def test_a_slot_that_something_else_has_written_into(cell: int, value: float, house: House) -> None:
    """Nonsense in the slot costs what was in there, and not the entry in the ledger."""
    member = house.hire()
    killed_before_the_last_store(house, member)
    member.lease.slot.header[cell] = value
    house.bury(member)
    assert sum(house.ledger.exits.values()) == 1
    assert sum(house.ledger.restarts.values()) == 1


def test_a_death_is_remembered(house: House) -> None:
    """The ledger keeps who it was, when and how it ended, and on what; its end is on the requests' clock."""
    member = house.hire()
    leave_in_flight(member, "/a", "/b")
    house.deaths.ends.listen(KILLED, (PID, "SIGKILL"))
    house.bury(member)
    ((record,)) = house.ledger.latest
    assert (record.when, record.clock, record.worker_id, record.pid) == (2000.0, GONE, "worker_1_50", PID)
    assert (record.reason, record.detail, record.others) == ("signal", "SIGKILL", 0)
    assert [(request.start, request.path) for request in record.requests] == [(100.0, "/a"), (101.0, "/b")]


def test_ordinary_deaths_do_not_push_out_what_is_news(house: House) -> None:
    """A crash is still remembered after many workers that left because they were told to."""
    house.deaths.ends.listen(KILLED, (PID, "SIGSEGV"))
    house.bury(house.hire())
    for age in range(2, 40):
        member = house.hire(age)
        left(member)
        member.stop_reason = "reload"
        house.bury(member)
    assert [record.detail for record in house.ledger.latest].count("SIGSEGV") == 1
    assert len(house.ledger.latest) == 1 + MAX_ROUTINE
