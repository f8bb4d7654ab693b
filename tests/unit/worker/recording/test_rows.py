"""Whatever clients send, the number of series is bounded, and nothing is lost in the totals."""

from __future__ import annotations

import pytest

from gunicorn_prom_hooks.shm.schema import FAILED, OVERFLOWED, REQUESTS
from gunicorn_prom_hooks.shm.slot import Slot
from gunicorn_prom_hooks.worker.recording import rows
from gunicorn_prom_hooks.worker.recording.recorder import MAX_ERROR_TYPES, METHODS, RESERVE, Recorder
from gunicorn_prom_hooks.worker.recording.sync_hooks import one_at_a_time
from tests.helpers.recording import GET, Bench, Recorded, answers, handled, new_slot, raises

RAW = b"%s %s HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_registered_methods_are_labels_and_others_are_other() -> None:
    """A method of the registered set is the label; whatever else a client invents is <other>."""
    with Bench() as bench:
        for method in ("GET", "PROPFIND", "PATCH", "BREW", "GETS"):
            bench.send(RAW % (method.encode(), b"/x"), answers())
        assert bench.requests() == {
            ("GET", "/x", "200"): 1.0,
            ("PROPFIND", "/x", "200"): 1.0,
            ("PATCH", "/x", "200"): 1.0,
            ("<other>", "/x", "200"): 2.0,
        }
    assert len(METHODS) == 16


def test_status_404_without_a_route_is_unmatched() -> None:
    """Without a route, a 404 counts as <unmatched>, whatever the path; the same path found is an endpoint."""
    with Bench() as bench:
        for path in (b"/wp-login.php", b"/.env", b"/x"):
            bench.get(path, answers("404 Not Found"))
        bench.get(b"/x", answers())
        assert bench.requests() == {("GET", "<unmatched>", "404"): 3.0, ("GET", "/x", "200"): 1.0}
        assert bench.counts(OVERFLOWED) == {}


def test_disconnect_during_a_404_without_a_route_is_unmatched() -> None:
    """A scanner that does not wait for its 404 makes no endpoint of its path."""
    with Bench() as bench:
        for path in (b"/wp-login.php", b"/.env"):
            bench.send(GET % path, answers("404 Not Found"), client_leaves=True)
        assert bench.requests() == {("GET", "<unmatched>", "499"): 2.0}


def test_status_404_of_a_route_keeps_its_endpoint() -> None:
    """A 404 that the application gives for one of its routes is that route's."""
    with Bench(lambda environ: "/items/<id>") as bench:
        bench.get(b"/items/7", answers("404 Not Found"))
        assert bench.requests() == {("GET", "/items/<id>", "404"): 1.0}


@pytest.mark.parametrize("generation", [1, 2])
def test_endpoints_beyond_max_endpoints_are_other_and_counted_as_overflow(generation: int) -> None:
    """Past max_endpoints a new one becomes <other>, each time counted; the known ones stay, for a successor too."""
    slot, paths = new_slot(), [b"/a", b"/b", b"/c", b"/d", b"/a", b"/c"]
    for _ in range(generation):
        with Bench(max_endpoints=2, slot=slot) as bench:
            for path in paths:
                bench.get(path, answers())
    assert bench.requests() == {
        ("GET", "/a", "200"): 2.0 * generation,
        ("GET", "/b", "200"): 1.0 * generation,
        ("GET", "<other>", "200"): 3.0 * generation,
    }
    assert bench.counts(OVERFLOWED) == {("endpoint",): 3.0 * generation}


def test_random_paths_do_not_exceed_the_bound_of_series() -> None:
    """Thousands of random paths, found or not, make no more series than the bound says."""
    recorded = Recorded(max_endpoints=20)
    pre_request, post_request = one_at_a_time(recorded.recorder, None, recorded.errors)
    for number in range(3000):
        path = b"/x%dx" % number + b"y" * (number % 300)
        request, environ, response = handled(RAW % (b"GET", path), "200 OK" if number % 2 else "404 Not Found")
        pre_request(None, request)
        post_request(None, request, environ, response)
    assert len(recorded.series(REQUESTS)) == 22
    assert sum(recorded.requests().values()) == 3000.0
    assert recorded.requests()["GET", "<unmatched>", "404"] == 1500.0


def test_error_types_beyond_the_bound_are_other() -> None:
    """An application that invents exception classes gets so many of them named, and the rest as <other>."""
    with Bench() as bench:
        for number in range(MAX_ERROR_TYPES + 5):
            bench.get(b"/x", raises(type(f"Error{number}", (Exception,), {})()))
        failed = bench.counts(FAILED)
        assert len(failed) == MAX_ERROR_TYPES + 1
        assert failed["GET", "/x", "<other>"] == 5.0
        assert bench.counts(OVERFLOWED)["error_type",] >= 5.0


@pytest.mark.parametrize(("cells", "directory"), [(RESERVE + 200, 10**6), (10**6, RESERVE + 600)])
def test_full_slot_counts_new_series_as_other_without_loss(cells: int, directory: int) -> None:
    """Where a slot has no room for a series, its requests count under the endpoint <other>, and that is counted."""
    with Bench(slot=Slot(cells, directory)) as bench:
        for number in range(40):
            bench.get(b"/%c" % (97 + number % 20), answers())
        counts = bench.requests()
        assert sum(counts.values()) == 40.0
        assert counts["GET", "<other>", "200"] > 0.0
        assert counts["GET", "/a", "200"] == 2.0
        assert bench.counts(OVERFLOWED)["series",] > 0.0
        assert bench.errors.counts == {}


def test_exhausted_reserve_counts_requests_as_other_without_loss() -> None:
    """Where even <other> has no room with its method and status, all labels become <other>."""
    with Bench(slot=Slot(RESERVE + 200, 10**6)) as bench:
        for status in range(200, 500):
            for path in (b"/a", b"/b", b"/c"):
                bench.get(path, answers(f"{status} X"))
        counts = bench.requests()
        assert sum(counts.values()) == 900.0
        assert len(counts) < 900
        assert bench.errors.counts == {}


def test_rows_beyond_the_cache_are_counted_without_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """More endpoints than are kept at hand, and keys too long to be kept, are counted like any other."""
    monkeypatch.setattr(rows, "CACHED_KEYS", 4)
    with Bench() as bench:
        for path in (b"/a", b"/b", b"/c", b"/d", b"/e", b"/f", b"/a", b"/" + b"z" * 300) * 2:
            bench.get(path, answers())
        counts = bench.requests()
        assert sum(counts.values()) == 16.0
        assert counts["GET", "/a", "200"] == 4.0
        assert len(counts) == 7


def test_long_or_invalid_endpoint_is_cut_or_replaced_and_counted() -> None:
    """An endpoint of the user's that is far too long, or no valid text, is cut or mended, and counted."""
    values = iter(["x" * 5000, "\ud800", "é" * 300])
    with Bench(lambda environ: next(values)) as bench:
        for _ in range(3):
            bench.get(b"/x", answers())
        assert set(bench.requests()) == {
            ("GET", "x" * 256, "200"),
            ("GET", "?", "200"),
            ("GET", "é" * 128, "200"),
        }


def test_empty_endpoint_is_replaced_by_the_path() -> None:
    """A user's endpoint that is empty leaves the label to the path."""
    with Bench(lambda environ: "") as bench:
        bench.get(b"/items/7", answers())
        assert bench.requests() == {("GET", "/items/:id", "200"): 1.0}


def test_endpoints_of_a_predecessor_take_no_second_place_under_the_bound() -> None:
    """Endpoints that a predecessor counted need no second place under the cap."""
    slot = new_slot()
    assert [Recorder(slot, 2).endpoint(value) for value in ("/a",)] == ["/a"]
    first = Recorder(slot, 2)
    first.row("GET", first.endpoint("/a"), 200, 0, 0)
    second = Recorder(slot, 2)
    assert [second.endpoint(value) for value in ("/b", "/a", "/c")] == ["/b", "/a", "<other>"]
