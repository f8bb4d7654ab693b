"""What the master shows of its workers, and what it still books when it exits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.workers.sync import SyncWorker

from gunicorn_prom_hooks.collectors import Page
from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.master import exits as deaths
from gunicorn_prom_hooks.master.master import Master
from gunicorn_prom_hooks.master.workers import TrackedWorker
from gunicorn_prom_hooks.settings import Settings
from gunicorn_prom_hooks.shm.allocator import SlotAllocator
from gunicorn_prom_hooks.shm.layout import EXIT_MARK, RUNNING_AT
from gunicorn_prom_hooks.shm.reader import SlotReader
from gunicorn_prom_hooks.shm.schema import COUNTS, FAILED, MAX_PATHS, OVERFLOWED, REQUESTS
from gunicorn_prom_hooks.worker.recording.in_flight import UntrackedRequests
from gunicorn_prom_hooks.worker.recording.recorder import MAX_ERROR_TYPES, Recorder
from gunicorn_prom_hooks.worker.recording.sync_hooks import one_at_a_time
from tests.helpers.recording import Recorded, handled
from tests.helpers.snapshots import begin, one, request, samples

STOP = ("Handling signal: %s", ("term",))


class Log:
    """gunicorn's logger."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def error(self, text: str, *args: object, **kwargs: object) -> None:
        """Keeps it."""
        self.lines.append(text % args)

    warning = error


class Kernel:
    """It has killed nobody for want of memory."""

    def look(self) -> None:
        """Nothing to see."""

    def claim(self) -> bool:
        """It was not the kernel."""
        return False


class House:
    """A master with one worker, which runs."""

    def __init__(self) -> None:
        self.log = Log()
        workers: dict[int, Any] = {}
        server = SimpleNamespace(cfg=Config(), log=self.log, WORKERS=workers, LISTENERS=[], num_workers=1, timeout=30)
        self.master = Master(server, Settings(port=0, max_endpoints=20), ErrorReporter())
        arguments: tuple[Any, ...] = (os.getpid(), [], None, 30, Config(), None)
        workers[os.getpid()] = SyncWorker(1, *arguments)
        self.worker = workers.pop(os.getpid())
        self.master.forking(self.worker)
        self.worker.pid = os.getpid()
        server.WORKERS[self.worker.pid] = self.worker
        self.member.lease.slot.header[RUNNING_AT] = self.member.lease.since + 1.0

    @property
    def member(self) -> TrackedWorker:
        """The worker's entry."""
        member = self.master.member(self.worker)
        assert member is not None
        return member

    def exits(self) -> dict[tuple[str, str], int]:
        """Ends by reason and detail that have been booked."""
        return {how: count for how, count in self.master.view().ledger.exits.items() if count}


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A house on a kernel that kills nobody."""
    monkeypatch.setattr(deaths, "OomKills", Kernel)
    house = House()
    yield house
    house.worker.tmp._tmp.close()


@pytest.mark.parametrize(
    ("said", "stop_reason", "aborted", "stopping"),
    [
        (None, "", False, False),
        (("Handling signal: %s", ("hup",)), "", False, False),
        (STOP, "", False, True),
        (("Worker (pid:%s) exited with code %s.", (1, 3)), "", False, True),
        (None, "reload", False, True),
        (None, "", True, True),
    ],
)
def test_whether_a_worker_is_to_leave(said: Any, stop_reason: str, aborted: bool, stopping: bool, house: House) -> None:
    """It is when the server shuts down, when it was told to, and when gunicorn has run out of patience with it."""
    if said is not None:
        house.master.listen(*said)
    house.member.stop_reason = stop_reason
    house.worker.aborted = aborted
    assert [worker.stopping for worker in house.master.view().workers] == [stopping]


@pytest.mark.parametrize(
    ("said", "how"), [([STOP], ("shutdown", "SIGKILL")), ([], ("signal", "SIGKILL"))], ids=["shutdown", "crash"]
)
def test_a_worker_that_outlives_the_shutdown(said: list[Any], how: tuple[str, str], house: House) -> None:
    """What is still there when the master exits has been killed, and is booked and told as that, though nobody says."""
    for text, args in (("Booting worker with pid: %s", (house.worker.pid,)), *said):
        house.master.listen(text, args)
    slot = house.member.lease.slot
    begin(house.member.lease, 1.0)
    house.master.exiting()
    assert house.exits() == {how: 1}
    assert house.master.view().ledger.killed == {("GET", "/x", how[0]): 1}
    assert house.master.view().workers == []
    assert slot.header[EXIT_MARK] == 0.0
    ((line),) = house.log.lines
    assert f"ended: {how[0]} ({how[1]}), in the middle of GET /x (" in line


def test_a_worker_that_was_gone_before_the_master_exits(house: House) -> None:
    """An end that gunicorn has told of is booked as what it was, and once."""
    house.master.listen(*STOP)
    house.member.lease.slot.header[EXIT_MARK] = 1.0
    del house.master.server.WORKERS[house.worker.pid]
    house.master.left(house.worker)
    house.master.exiting()
    assert house.exits() == {("shutdown", "0"): 1}


def test_a_view_is_a_copy(house: House) -> None:
    """Whatever the server does after it was looked at, the view says what was, and so does a page made of it."""
    lease = house.member.lease
    recorder = Recorder(lease.slot, 20)
    request(lease, recorder)
    begin(lease, 1.0)
    untracked = UntrackedRequests(lease.slot)
    untracked.add(1.0)
    untracked.add(1.0)
    house.master.message("error")
    view = house.master.view()

    request(lease, recorder)
    request(lease, recorder, labels=("PUT", "/new", 201))
    begin(lease, 2.0, number=1)
    untracked.add(3.0)
    house.master.message("error")
    house.master.reloaded()
    house.master.exiting()

    worker_id = view.workers[0].worker_id
    assert list(view.totals.series(REQUESTS.number)) == [("GET", "/x", "200", "0", "0")]
    assert view.totals.series(REQUESTS.number)["GET", "/x", "200", "0", "0"] == view.counts[worker_id].requests
    assert view.counts[worker_id].in_progress == 3
    assert [(found.start, found.path) for found in view.workers[0].in_flight] == [(1.0, "/x")]
    assert (view.messages, view.reloads, view.departed) == ({"error": 1}, 0, [])
    assert not any(view.ledger.exits.values())
    found = samples(Page(house.master.view, ErrorReporter()).collect_from(view))
    assert one(found, "gunicorn_requests_total", method="GET", endpoint="/x", status=200) == 1.0
    assert one(found, "gunicorn_requests_in_progress") == 3.0


def test_a_request_is_never_finished_and_in_progress(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that ends between any two of the view's reads of a slot is missing in one of them, or in both."""
    lease = house.member.lease
    recorded = Recorded(20, lease.slot)
    pre_request, post_request = one_at_a_time(recorded.recorder, None, recorded.errors)
    served = handled(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    reads = 0
    for reader, name in (
        (SlotReader, "update"),
        (SlotReader, "captured"),
        (SlotAllocator, "copy"),
        (SlotReader, "in_flight"),
        (SlotReader, "untracked"),
    ):
        read = getattr(reader, name)

        def watched(*args: Any, read: Any = read) -> Any:
            nonlocal reads
            reads += 1
            if reads == ends_before:
                post_request(None, *served)
            return read(*args)

        monkeypatch.setattr(reader, name, watched)
    for ends_before in range(1, 8):
        reads = 0
        pre_request(None, served[0])
        view = house.master.view()
        if reads < ends_before:
            post_request(None, *served)
        counts = next(iter(view.counts.values()))
        finished = sum(counts.requests[COUNTS])
        assert finished + counts.in_progress <= ends_before, f"twice, where it ended before read {ends_before}"
    assert reads < 7, "the last one ended after all of them"


def test_a_page_needs_no_second_look(house: House) -> None:
    """A page is made of the view that it is given; nothing is asked of the master meanwhile."""
    looks = []

    def look() -> Any:
        looks.append(1)
        return house.master.view()

    page = Page(look, ErrorReporter())
    list(page.collect_from(page.look()))
    assert len(looks) == 1


def test_paths_take_no_room_from_what_is_counted(house: House) -> None:
    """With as many known paths as there may be, and long ones, every endpoint has rows, and nothing overflows."""
    endpoints = house.master.settings.max_endpoints
    recorded = Recorded(endpoints, house.master._new_slot())
    recorder = recorded.recorder
    assert all(recorder.path("GET", f"/{number:0249}") for number in range(MAX_PATHS))
    assert recorder.path("GET", f"/{MAX_PATHS:0249}") == 0.0
    expected = set()
    for number in range(endpoints):
        endpoint = recorder.endpoint(f"/{number:0249}")
        for method in ("GET", "POST", "DELETE"):
            for status in (200, 404, 500):
                recorded.slot.words[recorder.row(method, endpoint, status, 0, 0).at + 3] += 1.0
                expected.add((method, endpoint, str(status)))
    for number in range(MAX_ERROR_TYPES):
        recorder.count(FAILED, "GET", f"/{0:0249}", recorder.error_type(f"Error{number}"))
    assert recorded.requests().keys() == expected
    assert len(recorded.counts(FAILED)) == MAX_ERROR_TYPES
    assert recorded.counts(OVERFLOWED) == {}
