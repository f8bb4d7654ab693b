"""What is recorded of a request that gunicorn's own worker, parser and response code have handled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gunicorn_prom_hooks.shm.schema import (
    COUNTS,
    DEFAULT_BUCKETS,
    DURATION_SUM,
    ERROR_HANDLING,
    FAILED,
    INVALID,
    OVERFLOWED,
    REQUEST_SIZE_SUM,
    REQUESTS,
    RESPONSE_SIZE_SUM,
)
from gunicorn_prom_hooks.worker.recording import event_loop_hooks, sync_hooks
from gunicorn_prom_hooks.worker.recording.sync_hooks import without_excluded
from tests.helpers.recording import GET, KINDS, Bench, MakeHooks, Recorded, answers, entries, handled

POST = b"POST /items/7 HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"


def test_successful_request_is_counted_once_and_not_in_progress() -> None:
    """A GET is one request of its method, endpoint and status, nothing failed, and nothing is in progress after it."""
    with Bench() as bench:
        assert bench.get(b"/items/7", answers()).endswith(b"\r\n\r\nok")
        bench.get(b"/items/8?page=2", answers())
        assert bench.requests() == {("GET", "/items/:id", "200"): 2.0}
        assert bench.in_progress() == 0
        for family in (FAILED, ERROR_HANDLING, INVALID, OVERFLOWED):
            assert bench.counts(family) == {}
        assert bench.errors.counts == {}


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("status", ["200 OK", "301 Moved Permanently", "403 Forbidden", "418 I'm a Teapot", "299 Own"])
def test_status_below_500_is_counted_and_not_a_failure(make: MakeHooks, status: str) -> None:
    """The status is that of the application's answer, in both kinds of worker, and below 500 it is no failure."""
    with Bench(make=make) as bench:
        bench.get(b"/x", answers(status))
        assert bench.requests() == {("GET", "/x", status[:3]): 1.0}
        assert bench.counts(FAILED) == {}


def test_response_503_is_a_failure_and_not_handled_by_gunicorn() -> None:
    """An answer with 503 is a failed request of error type HTTP 503, and no error of gunicorn's."""
    with Bench() as bench:
        bench.get(b"/x", answers("503 Service Unavailable"))
        assert bench.requests() == {("GET", "/x", "503"): 1.0}
        assert bench.counts(FAILED) == {("GET", "/x", "HTTP 503"): 1.0}
        assert bench.counts(ERROR_HANDLING) == {}


def sizes(bench: Bench) -> tuple[int, int, float, float]:
    """Size classes and sums in bytes, of request and response, of the only request recorded."""
    ((labels, cells),) = bench.series(REQUESTS).items()
    return int(labels[3]), int(labels[4]), cells[REQUEST_SIZE_SUM], cells[RESPONSE_SIZE_SUM]


@pytest.mark.parametrize(
    ("size", "size_class"), [(0, 0), (1, 0), (1024, 0), (1025, 1), (4096, 1), (4097, 2), (16384, 2), (100_000, 4)]
)
def test_body_sizes_are_counted_in_their_class_and_sum(size: int, size_class: int) -> None:
    """Bodies count in the class whose upper bound they do not exceed, and to the byte in the sums."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        return answers(body=environ["wsgi.input"].read().replace(b"x", b"y"))(environ, start_response)

    with Bench() as bench:
        bench.send(POST % size + b"x" * size, app)
        assert sizes(bench) == (size_class, size_class, size, size)


@pytest.mark.parametrize(("length", "size_class"), [(1048577, 6), (4194304, 6), (4194305, 7), (10**12, 7)])
def test_request_size_is_its_content_length_also_if_unread(length: int, size_class: int) -> None:
    """A request's size is what its header says, also where the application does not read it."""
    with Bench() as bench:
        bench.send(POST % length, answers())
        assert sizes(bench)[::2] == (size_class, length)


def test_chunked_request_has_the_class_of_unknown_size() -> None:
    """The size of a chunked body is unknown: a class of its own, and nothing in the sum."""
    with Bench() as bench:
        head = b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        bench.send(head + b"2\r\nxx\r\n0\r\n\r\n", answers())
        assert sizes(bench)[::2] == (8, 0.0)


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("length", [None, 7, b"7", ["7"], object()])
def test_replaced_content_length_costs_only_the_size(make: MakeHooks, length: object) -> None:
    """The request is counted, and only its size is unknown."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        environ["CONTENT_LENGTH"] = length
        return answers()(environ, start_response)

    with Bench(make=make) as bench:
        bench.get(b"/x", app)
        assert bench.requests() == {("GET", "/x", "200"): 1.0}
        assert bench.errors.counts == {}
        assert bench.in_progress() == 0


@pytest.mark.parametrize("make", KINDS)
def test_cleared_environ_is_500_and_a_failure_with_its_path(make: MakeHooks) -> None:
    """gunicorn reads ``wsgi.file_wrapper`` of it and responds with 500: that is counted, by the path."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        environ.clear()
        return answers()(environ, start_response)

    with Bench(make=make) as bench:
        assert bench.get(b"/x", app).startswith(b"HTTP/1.1 500 ")
        assert bench.requests() == {("GET", "/x", "500"): 1.0}
        assert bench.counts(FAILED) == {("GET", "/x", "KeyError"): 1.0}
        assert bench.errors.counts == {}


def sendfile(path: Path) -> Callable[..., Any]:
    """An application that answers with a file through wsgi.file_wrapper."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response("200 OK", [("Content-Length", str(path.stat().st_size))])
        return environ["wsgi.file_wrapper"](path.open("rb"))

    return app


def test_sendfile_response_has_its_content_length_as_size(tmp_path: Path) -> None:
    """A response by sendfile, of which gunicorn counts no bytes, has the size that its header says."""
    (tmp_path / "file").write_bytes(b"x" * 5000)
    with Bench() as bench:
        assert len(bench.get(b"/file", sendfile(tmp_path / "file"))) > 5000
        assert sizes(bench) == (0, 2, 0.0, 5000.0)


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", "200 OK"), (b"GET", "304 Not Modified")])
def test_response_without_a_body_has_size_0_despite_content_length(method: bytes, status: str) -> None:
    """What has a Content-Length but no body sent nothing."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response(status, [("Content-Length", "5000")])
        return []

    with Bench() as bench:
        bench.send((GET % b"/x").replace(b"GET", method), app)
        assert sizes(bench)[1::2] == (0, 0.0)


def test_each_combination_of_size_classes_has_its_own_row() -> None:
    """Each combination of size classes is a row of its own, met again or not: no two are taken for one another."""
    some = [0, 1500, 5000, 20_000]
    with Bench() as bench:
        for size in some * 2:
            for body in some:
                bench.send(POST % size, answers(body=b"y" * body))
        rows = {labels[3:]: sum(cells[COUNTS]) for labels, cells in bench.series(REQUESTS).items()}
        assert rows == {(str(n), str(m)): 2.0 for n in range(4) for m in range(4)}


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, 0), (0.001, 0), (0.0011, 1), (0.0025, 1), (0.3, 9), (60.0, 17), (60.1, 18), (9e9, 18)]
)
@pytest.mark.parametrize("make", KINDS)
def test_duration_is_counted_in_its_bucket_and_sum(
    make: MakeHooks, seconds: float, bucket: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A duration counts in the first bucket whose upper bound it does not exceed, and in the sum."""
    times: Iterator[float] = iter([0.0, seconds])
    for module in (sync_hooks, event_loop_hooks):
        monkeypatch.setattr(module, "monotonic", lambda: next(times))
    with Bench(make=make) as bench:
        bench.get(b"/x", answers())
        ((_, cells),) = bench.series(REQUESTS).items()
        bounds = DEFAULT_BUCKETS.bounds
        assert cells[COUNTS] == [float(n == bucket) for n in range(len(bounds) + 1)]
        assert cells[DURATION_SUM] == seconds
        assert bucket == len(bounds) or seconds <= bounds[bucket]


@pytest.mark.parametrize("make", KINDS)
def test_request_is_in_the_in_flight_table_until_its_end(make: MakeHooks) -> None:
    """The application's own request stands in the in-flight table, with method and path, until it has ended."""
    seen = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.extend(bench.reader.in_flight())
        return list(answers()(environ, start_response))

    with Bench(make=make) as bench:
        bench.get(b"/items/7?secret=1", app)
        ((start, method, path),) = seen
        assert (method, path) == ("GET", "/items/7")
        assert start > 0.0
        assert bench.in_progress() == 0


def test_successor_in_a_slot_counts_in_the_same_series() -> None:
    """A worker that gets a used slot counts on in the same series."""
    with Bench() as first:
        first.get(b"/x", answers())
        first_entries = len(entries(first.slot))
        with Bench(slot=first.slot) as second:
            second.get(b"/x", answers())
            assert second.requests() == first.requests() == {("GET", "/x", "200"): 2.0}
            assert len(entries(second.slot)) == first_entries


@pytest.mark.parametrize("make", KINDS)
def test_many_excluded_requests_in_progress_are_left_out_to_their_end(make: MakeHooks) -> None:
    """However many are in progress at a time, such as long polls, none is recorded at its end without its start."""
    recorded = Recorded()
    recorded.recorder.is_excluded = lambda path: path == "/x"
    hooks = make(recorded.recorder, None, recorded.errors)
    pre_request, post_request = without_excluded(hooks, recorded.recorder, recorded.errors)
    running = [handled(GET % b"/x") for _ in range(1000)]
    for request, _, _ in running:
        pre_request(None, request)
    assert recorded.in_progress() == 0
    for request, environ, response in running:
        post_request(None, request, environ, response)
    assert recorded.requests() == {}
    assert recorded.errors.counts == {}
