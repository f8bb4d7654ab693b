"""Requests that were in progress when their worker exited."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from greenlet import GreenletExit  # type: ignore[import-untyped]

from gunicorn_prom_hooks.model.exits import ExitReason
from gunicorn_prom_hooks.shm.layout import (
    INFLIGHT_ENTRIES,
)
from gunicorn_prom_hooks.shm.slot import inflight_start
from gunicorn_prom_hooks.worker.recording.event_loop_hooks import many_at_a_time
from gunicorn_prom_hooks.worker.recording.recorder import Recorder
from gunicorn_prom_hooks.worker.recording.sync_hooks import one_at_a_time
from tests.helpers.recorded_exits import (
    EXITED_AT,
    ExitBench,
    answer_without_counting,
    begin_requests,
    mark_orderly,
)
from tests.helpers.recording import GET, handled, interruption
from tests.unit.master.test_exits import EXITS


def test_more_requests_than_the_table_holds_are_all_counted(bench: ExitBench) -> None:
    """Requests in the in-flight table are counted by endpoint, the others as other."""
    tracked = bench.add_worker()
    begin_requests(tracked, *[f"/items/{number}" for number in range(INFLIGHT_ENTRIES)], *["/lost"] * 3)
    bench.record(tracked)
    assert bench.exit_stats.killed == {
        ("GET", "/items/:id", "error"): INFLIGHT_ENTRIES,
        ("<other>", "<other>", "error"): 3,
    }
    ((level, line),) = bench.log.lines
    assert level == "error"
    assert line.endswith(
        "in progress: GET /items/0 (7.500 s), GET /items/1 (6.500 s), "
        f"GET /items/2 (5.500 s), {INFLIGHT_ENTRIES} other requests"
    )


def test_untracked_request_alone_is_logged(bench: ExitBench) -> None:
    """An expected exit with only untracked requests in progress is logged as a warning."""
    tracked = bench.add_worker()
    begin_requests(tracked, *["/x"] * (INFLIGHT_ENTRIES + 1))
    for number in range(INFLIGHT_ENTRIES):
        tracked.lease.slot.words[inflight_start(number)] = 0.0
    EXITS["reload"].apply(bench, tracked)
    assert bench.exit_stats.killed == {("<other>", "<other>", "reload"): 1}
    assert [level for level, _ in bench.log.lines] == ["warning"]
    assert bench.log.lines[0][1].endswith("in progress: 1 other request")


def test_request_with_a_path_reference_is_named(bench: ExitBench) -> None:
    """A request to a path that the worker has served before is named, without an earlier scrape."""
    tracked = bench.add_worker()
    pre_request, post_request = one_at_a_time(Recorder(tracked.lease.slot, 200), None, bench.errors)
    request, environ, response = handled(GET % b"/items/7")
    pre_request(None, request)
    post_request(None, request, environ, response)
    pre_request(None, request)
    bench.record(tracked)
    assert bench.exit_stats.killed == {("GET", "/items/:id", "error"): 1}
    assert "in progress: GET /items/7 (" in bench.log.lines[0][1]


def test_endpoints_of_killed_requests_are_capped(bench: ExitBench) -> None:
    """max_endpoints limits the endpoints over all exits. Further ones are other, until the limit is raised."""
    bench = ExitBench(max_endpoints=2)
    for age, paths in enumerate([("/a/1", "/b"), ("/c", "/a/2"), ("/d", "/b")], start=1):
        tracked = bench.add_worker(age)
        begin_requests(tracked, *paths)
        bench.record(tracked)
    named = {("GET", "/a/:id", "error"): 2, ("GET", "/b", "error"): 2}
    assert bench.exit_stats.killed == {**named, ("GET", "<other>", "error"): 2}
    bench.exits.exit_stats.limit_endpoints(3)
    tracked = bench.add_worker(4)
    begin_requests(tracked, "/e", "/f")
    bench.record(tracked)
    assert bench.exit_stats.killed == {**named, ("GET", "/e", "error"): 1, ("GET", "<other>", "error"): 3}


@pytest.mark.parametrize(
    "path", ["/\xff\xfe", "/\x1b[2J\n\u202e", "/%s%d%1b", "/1" * 500, "/" + "x" * 5000, "/" + "\xe9" * 300]
)
def test_any_path_gives_a_bounded_label_and_one_printable_line(path: str, bench: ExitBench) -> None:
    """Whatever the path, the label has at most 256 bytes and the log line is printable."""
    tracked = bench.add_worker()
    begin_requests(tracked, path)
    bench.record(tracked)
    (((_, endpoint, _), count),) = bench.exit_stats.killed.items()
    assert count == 1
    assert 0 < len(endpoint.encode()) <= 256
    assert bench.log.lines[0][1].isprintable()


@pytest.mark.parametrize("scraped", [False, True])
def test_request_answered_but_not_counted_is_counted_once(scraped: bool, bench: ExitBench) -> None:
    """A worker is killed right before it counts a request: the master counts it, once, and not as killed."""
    tracked = bench.add_worker()
    answer_without_counting(bench, tracked)
    if scraped:
        assert bench.counted() == {}
    bench.record(tracked)
    assert bench.counted() == {("GET", "/x", "200"): 1.0}
    assert bench.exit_stats.killed == {}
    bench.exits.record_exit(tracked, EXITED_AT, reported=True)
    assert bench.counted() == {("GET", "/x", "200"): 1.0}


@pytest.mark.parametrize(("handler", "reason"), [("handle_abort", "timeout"), ("handle_quit", "error")])
def test_request_that_a_signal_handler_ends_is_killed(handler: str, reason: str, bench: ExitBench) -> None:
    """A request that gunicorn's signal handler ends is recorded by the worker, and counted as killed as well."""
    tracked = bench.add_worker()
    pre_request, post_request = one_at_a_time(Recorder(tracked.lease.slot, 200), None, bench.errors)
    request, environ, response = handled(GET % b"/x")
    pre_request(None, request)
    try:
        raise interruption(handler)
    except SystemExit:
        post_request(None, request, environ, response)
    tracked.worker.aborted = handler == "handle_abort"
    mark_orderly(tracked, 1)
    bench.record(tracked)
    assert bench.exit_stats.killed == {("GET", "/x", reason): 1}
    assert "in progress: GET /x (" in bench.log.lines[0][1]


@pytest.mark.parametrize("error", [interruption("handle_abort"), GreenletExit()])
def test_request_that_a_gevent_worker_cuts_off_is_killed(error: BaseException, bench: ExitBench) -> None:
    """A request that the worker's exit ends without an answer is counted as killed, and not as a request."""
    tracked = bench.add_worker()
    worker = SimpleNamespace(alive=True)
    pre_request, post_request = many_at_a_time(Recorder(tracked.lease.slot, 200), None, bench.errors)
    request, environ, response = handled(GET % b"/x")
    pre_request(worker, request)
    worker.alive = False
    try:
        raise error
    except (SystemExit, GreenletExit):
        post_request(worker, request, environ, response)
    mark_orderly(tracked)
    tracked.stop_reason = ExitReason.RELOAD
    assert bench.record(tracked) == ("reload", "0")
    assert bench.exit_stats.killed == {("GET", "/x", "reload"): 1}
    assert bench.counted() == {}
    assert [level for level, _ in bench.log.lines] == ["warning"]
