"""The master's snapshot of its workers, and the exits that it records at its own exit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.workers.sync import SyncWorker

from gunicorn_prom_hooks.collectors import MetricsPage
from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.master.master import Master
from gunicorn_prom_hooks.master.workers import TrackedWorker
from gunicorn_prom_hooks.model.exits import ExitReason
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
        """Keep the line."""
        self.lines.append(text % args)

    warning = error


class MasterBench:
    """A master with one running worker."""

    def __init__(self) -> None:
        self.log = Log()
        workers: dict[int, Any] = {}
        server = SimpleNamespace(cfg=Config(), log=self.log, WORKERS=workers, LISTENERS=[], num_workers=1, timeout=30)
        self.master = Master(server, Settings(port=0, max_endpoints=20), ErrorReporter())
        arguments: tuple[Any, ...] = (os.getpid(), [], None, 30, Config(), None)
        workers[os.getpid()] = SyncWorker(1, *arguments)
        self.worker = workers.pop(os.getpid())
        self.master.before_fork(self.worker)
        self.worker.pid = os.getpid()
        server.WORKERS[self.worker.pid] = self.worker
        self.tracked.lease.slot.header[RUNNING_AT] = self.tracked.lease.since + 1.0

    @property
    def tracked(self) -> TrackedWorker:
        """The worker's entry."""
        tracked = self.master.tracked_worker(self.worker)
        assert tracked is not None
        return tracked

    def exits(self) -> dict[tuple[str, str], int]:
        """Return the counted exits by reason and detail."""
        return {how: count for how, count in self.master.take_snapshot().exit_stats.exits.items() if count}


@pytest.fixture
def bench(no_oom_kills: None) -> Iterator[MasterBench]:
    """A bench without OOM kills."""
    made = MasterBench()
    yield made
    made.worker.tmp._tmp.close()


@pytest.mark.parametrize(
    ("message", "stop_reason", "aborted", "stopping"),
    [
        (None, None, False, False),
        (("Handling signal: %s", ("hup",)), None, False, False),
        (STOP, None, False, True),
        (("Worker (pid:%s) exited with code %s.", (1, 3)), None, False, True),
        (None, ExitReason.RELOAD, False, True),
        (None, None, True, True),
    ],
)
def test_worker_is_stopping_at_shutdown_stop_reason_or_abort(
    message: Any, stop_reason: ExitReason | None, aborted: bool, stopping: bool, bench: MasterBench
) -> None:
    """A worker is stopping if the server shuts down, if it has a stop reason, and if it was aborted."""
    if message is not None:
        bench.master.observe_message(*message)
    bench.tracked.stop_reason = stop_reason
    bench.worker.aborted = aborted
    assert [worker.stopping for worker in bench.master.take_snapshot().workers] == [stopping]


@pytest.mark.parametrize(
    ("messages", "how"), [([STOP], ("shutdown", "SIGKILL")), ([], ("signal", "SIGKILL"))], ids=["shutdown", "crash"]
)
def test_worker_still_live_at_the_masters_exit_is_recorded_as_killed(
    messages: list[Any], how: tuple[str, str], bench: MasterBench
) -> None:
    """gunicorn has sent it SIGKILL and logs nothing. The exit is counted and logged, with its requests."""
    for text, args in (("Booting worker with pid: %s", (bench.worker.pid,)), *messages):
        bench.master.observe_message(text, args)
    slot = bench.tracked.lease.slot
    begin(bench.tracked.lease, 1.0)
    bench.master.record_final_exits()
    assert bench.exits() == {how: 1}
    assert bench.master.take_snapshot().exit_stats.killed == {("GET", "/x", how[0]): 1}
    assert bench.master.take_snapshot().workers == []
    assert slot.header[EXIT_MARK] == 0.0
    ((line),) = bench.log.lines
    assert f"exited: {how[0]} ({how[1]}); in progress: GET /x (" in line


def test_reported_exit_is_recorded_once_at_the_masters_exit(bench: MasterBench) -> None:
    """An exit that gunicorn has reported keeps its reason, and is counted once."""
    bench.master.observe_message(*STOP)
    bench.tracked.lease.slot.header[EXIT_MARK] = 1.0
    del bench.master.server.WORKERS[bench.worker.pid]
    bench.master.worker_exited(bench.worker)
    bench.master.record_final_exits()
    assert bench.exits() == {("shutdown", "0"): 1}


def test_snapshot_is_a_copy(bench: MasterBench) -> None:
    """Later changes of the server do not change the snapshot, nor a page made of it."""
    lease = bench.tracked.lease
    recorder = Recorder(lease.slot, 20)
    request(lease, recorder)
    begin(lease, 1.0)
    untracked = UntrackedRequests(lease.slot)
    untracked.add(1.0)
    untracked.add(1.0)
    bench.master.count_message("error")
    snapshot = bench.master.take_snapshot()

    request(lease, recorder)
    request(lease, recorder, labels=("PUT", "/new", 201))
    begin(lease, 2.0, number=1)
    untracked.add(3.0)
    bench.master.count_message("error")
    bench.master.note_reload()
    bench.master.record_final_exits()

    worker_id = snapshot.workers[0].worker_id
    assert list(snapshot.totals.series(REQUESTS.number)) == [("GET", "/x", "200", "0", "0")]
    assert snapshot.totals.series(REQUESTS.number)["GET", "/x", "200", "0", "0"] == snapshot.counts[worker_id].requests
    assert snapshot.counts[worker_id].in_progress == 3
    assert [(found.start, found.path) for found in snapshot.workers[0].in_flight] == [(1.0, "/x")]
    assert (snapshot.messages, snapshot.reloads, snapshot.departed) == ({"error": 1}, 0, [])
    assert not any(snapshot.exit_stats.exits.values())
    found = samples(MetricsPage(bench.master.take_snapshot, ErrorReporter()).collect_from(snapshot))
    assert one(found, "gunicorn_requests_total", method="GET", endpoint="/x", status=200) == 1.0
    assert one(found, "gunicorn_requests_in_progress") == 3.0


def test_request_is_never_both_counted_and_in_progress(bench: MasterBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that ends between any two reads of the snapshot is missing from one of them, or from both."""
    lease = bench.tracked.lease
    recorded = Recorded(20, lease.slot)
    pre_request, post_request = one_at_a_time(recorded.recorder, None, recorded.errors)
    served = handled(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    reads = 0
    for reader, name in (
        (SlotReader, "update"),
        (SlotReader, "copy_series"),
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
        snapshot = bench.master.take_snapshot()
        if reads < ends_before:
            post_request(None, *served)
        counts = next(iter(snapshot.counts.values()))
        finished = sum(counts.requests[COUNTS])
        assert finished + counts.in_progress <= ends_before, f"twice, where it ended before read {ends_before}"
    assert reads < 7, "the last one ended after all of them"


def test_page_needs_one_snapshot(bench: MasterBench) -> None:
    """A page is made of the snapshot that it is given."""
    looks = []

    def look() -> Any:
        looks.append(1)
        return bench.master.take_snapshot()

    page = MetricsPage(look, ErrorReporter())
    list(page.collect_from(page.take_snapshot()))
    assert len(looks) == 1


def test_slot_has_room_for_all_endpoints_beside_all_paths(bench: MasterBench) -> None:
    """With the maximum number of long paths every endpoint still has rows, and nothing overflows."""
    endpoints = bench.master.settings.max_endpoints
    recorded = Recorded(endpoints, bench.master._new_slot())
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
