"""How long a request queue_seconds for a worker."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gunicorn_prom_hooks.shm.schema import DEFAULT_BUCKETS, QUEUE
from gunicorn_prom_hooks.worker.recording import event_loop_hooks, labels, sync_hooks
from gunicorn_prom_hooks.worker.recording.event_loop_hooks import many_at_a_time
from gunicorn_prom_hooks.worker.recording.headers import PLAUSIBLE_SECONDS, environ_key, queue_seconds
from gunicorn_prom_hooks.worker.recording.sync_hooks import one_at_a_time
from gunicorn_prom_hooks.worker.recording.threaded_hooks import one_per_thread
from tests.helpers.recording import Bench, Recorded, answers, handled, raises

NOW = 1_700_000_000.0
KEY = "HTTP_X_REQUEST_START"


@pytest.mark.parametrize(
    ("header", "key"),
    [("X-Request-Start", KEY), ("x-request-start", KEY), ("X-Queue-Start", "HTTP_X_QUEUE_START"), ("T", "HTTP_T")],
)
def test_environ_key_is_the_key_that_gunicorn_uses_for_a_header(header: str, key: str) -> None:
    """The key is the one under which gunicorn puts the header into the environ."""
    assert environ_key(header) == key
    _, environ, _ = handled(f"GET / HTTP/1.1\r\nHost: x\r\n{header}: 7\r\n\r\n".encode())
    assert environ[key] == "7"


@pytest.mark.parametrize(
    "stamp",
    [
        "1699999998.5",
        "1699999998500",
        "1699999998500000",
        "1699999998.500000",
        "1699999998500.000",
        "1.6999999985e9",
    ],
)
@pytest.mark.parametrize(
    "form", ["{}", "t={}", " {} ", "t= {}", "{}, 1600000000", "t={},t=1", " t={} , t=1", "{},", "{},x", "{},,"]
)
def test_queue_seconds_accepts_each_unit_and_form_of_a_timestamp(stamp: str, form: str) -> None:
    """Seconds, milliseconds and microseconds, with and without t=, alone or with others behind: it is one time."""
    assert queue_seconds(form.format(stamp), NOW) == pytest.approx(1.5, abs=1e-4)


@pytest.mark.parametrize(
    ("wait", "found"),
    [
        (0.0, 0.0),
        (0.001, 0.001),
        (3600.0, 3600.0),
        (3600.25, None),
        (86400.0, None),
        (-0.001, 0.0),
        (-3600.0, 0.0),
        (-3600.25, None),
        (-86400.0, None),
    ],
)
@pytest.mark.parametrize("unit", [1, 1000, 1_000_000])
def test_queue_seconds_is_0_in_the_future_and_none_beyond_an_hour(wait: float, found: float | None, unit: int) -> None:
    """A time to come is no wait, and one too far from now, before or after, is no time of this request."""
    got = queue_seconds(f"t={(NOW - wait) * unit:.3f}", NOW)
    assert got is None if found is None else got == pytest.approx(found, abs=2e-6)


@pytest.mark.parametrize(
    "stamp",
    [
        *("", " ", ",", "t=", "t", "x", "t=x", "=1700000000", "T=1700000000", "t=t=1700000000", "t==1700000000"),
        *("0", "-0", "-1700000000", "t=-1", "1", "1e400", "-1e400", "1e22", "1e21", "1e-400", "5e-324"),
        *("inf", "-inf", "infinity", "nan", "t=nan", "-nan", "NaN", "t=inf", "inf,1700000000", "nan,1700000000"),
        *("1,700,000,000", "1700000000000000000", "1700000000;", "1700000000 1700000000", "0x6553f100", "1700000000s"),
        *(",1700000000", "x,1700000000", "1700000000" + " " * 5000 + "x", "\x00", "\ud800"),
        *("2023-11-14T22:13:20Z", "Tue, 14 Nov 2023 22:13:20 GMT", "${msec}", "%t", "(null)", "1" * 5000, "1." * 5000),
        *("t=,1700000000", "-1700000000000000", "," * 5000, "t=" * 5000),
    ],
)
def test_queue_seconds_of_an_invalid_timestamp_is_none(stamp: str) -> None:
    """What is no time of our days is not a time."""
    assert queue_seconds(stamp, NOW) is None


@pytest.mark.parametrize(("stamp", "found"), [("40", 60.0), ("t=150", 0.0), ("3701", None), ("1e11", None)])
def test_queue_seconds_with_a_clock_near_zero_accepts_times_near_zero(stamp: str, found: float | None) -> None:
    """Where the clock is near zero, a time near it is one like any other."""
    assert queue_seconds(stamp, 100.0) == found


numbers = st.one_of(st.floats(), st.integers(), st.floats(NOW - 1e4, NOW + 1e4)).map(str)


@settings(deadline=None, max_examples=500)
@given(
    st.one_of(
        st.text(st.characters(exclude_categories=()), max_size=60),
        st.text("t=.,0123456789eE+-_ infa", max_size=40),
        numbers,
        numbers.map("t={}".format),
        st.integers(0, 10**24).map(str),
    ),
    st.one_of(st.just(NOW), st.floats(0.0, 1e11)),
)
@example("t=1e11", 1e11)
@example("100000000000.1", 1e11)
@example("9" * 22, 1e11)
def test_queue_seconds_is_none_or_plausible_for_any_text_and_clock(stamp: str, now: float) -> None:
    """It never raises; a wait is never negative and never beyond the plausible."""
    seconds = queue_seconds(stamp, now)
    assert seconds is None or 0.0 <= seconds <= PLAUSIBLE_SECONDS


KINDS: tuple[Any, ...] = (one_at_a_time, one_per_thread, many_at_a_time)


class Clock:
    """Time as the hooks see it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = NOW
        monkeypatch.setattr(labels, "time", lambda: self.now)
        for module in (sync_hooks, event_loop_hooks):
            monkeypatch.setattr(module, "monotonic", lambda: self.now - NOW + 100.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands at NOW."""
    return Clock(monkeypatch)


def queue(recorded: Recorded) -> tuple[float, list[float]] | None:
    """Seconds and counts by bucket; None while nothing is recorded."""
    found = recorded.series(QUEUE)
    if not found:
        return None
    ((seconds, *counts),) = found.values()
    return seconds, counts


def buckets(**counts: float) -> list[float]:
    """Counts by bucket, given as le_0_5=2.0 or more=1.0; no others."""
    bounds = [f"le_{bound:g}".replace(".", "_") for bound in DEFAULT_BUCKETS.bounds] + ["more"]
    assert counts.keys() <= set(bounds)
    return [counts.get(bound, 0.0) for bound in bounds]


def serve(hooks: Any, clock: Clock, *headers: str, took: float = 0.0) -> None:
    """Has the hooks record a request with these headers, which takes so long."""
    lines = "".join(f"{header}\r\n" for header in headers)
    request, environ, response = handled(f"GET /x HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
    hooks[0](None, request)
    clock.now += took
    hooks[1](None, request, environ, response)


@pytest.mark.parametrize("make", KINDS)
def test_queue_time_is_recorded_in_bucket_and_sum_without_the_duration(make: Any, clock: Clock) -> None:
    """The wait goes into its bucket and into the sum, without the time that the request then took."""
    recorded = Recorded()
    hooks = make(recorded.recorder, None, recorded.errors, queue_header=KEY)
    serve(hooks, clock, f"X-Request-Start: t={NOW - 0.375:.3f}", took=2.0)
    assert queue(recorded) == (0.375, buckets(le_0_5=1.0))
    for wait in (0.375, 0.5, 90.0, -3.0):
        serve(hooks, clock, f"X-Request-Start: {(clock.now - wait) * 1000.0:.0f}", took=20.0)
    assert queue(recorded) == (91.25, buckets(le_0_001=1.0, le_0_5=3.0, more=1.0))
    assert recorded.requests() == {("GET", "/x", "200"): 5.0}
    assert recorded.errors.counts == {}


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("X-Queue-Start: t=1699999999",),
        ("X-Request-Start: ",),
        ("X-Request-Start: t=x",),
        ("X-Request-Start: 1",),
        ("X-Request-Start: x", "X-Request-Start: 1699999999"),
    ],
)
def test_request_without_a_valid_queue_header_is_counted_without_queue_time(
    headers: tuple[str, ...], make: Any, clock: Clock
) -> None:
    """A request without the header, or with nonsense in it, is recorded as ever, but for the wait."""
    recorded = Recorded()
    serve(make(recorded.recorder, None, recorded.errors, queue_header=KEY), clock, *headers)
    assert queue(recorded) is None
    assert recorded.requests() == {("GET", "/x", "200"): 1.0}
    assert recorded.errors.counts == {}


@pytest.mark.parametrize("make", KINDS)
def test_empty_queue_header_setting_records_no_queue_time(make: Any, clock: Clock) -> None:
    """Where the setting is empty, a request that says since when it waits records no wait."""
    recorded = Recorded()
    serve(make(recorded.recorder, None, recorded.errors), clock, "X-Request-Start: t=1699999999")
    assert queue(recorded) is None
    assert recorded.requests() == {("GET", "/x", "200"): 1.0}


def test_first_of_two_queue_headers_is_used(clock: Clock) -> None:
    """Of two proxies that both say since when, the first one to have had the request is believed."""
    recorded = Recorded()
    hooks = one_at_a_time(recorded.recorder, None, recorded.errors, queue_header=KEY)
    serve(hooks, clock, "X-Request-Start: t=1699999998", "X-Request-Start: t=1699999999")
    assert queue(recorded) == (2.0, buckets(le_2_5=1.0))


def test_requests_with_and_without_queue_header_share_one_series(clock: Clock) -> None:
    """The header makes no difference to how a request is counted otherwise, in whatever order they come."""
    recorded = Recorded()
    hooks = one_at_a_time(recorded.recorder, None, recorded.errors, queue_header=KEY)
    for number in range(6):
        serve(hooks, clock, *["X-Request-Start: t=1699999998"] * (number % 2))
    assert queue(recorded) == (6.0, buckets(le_2_5=3.0))
    assert recorded.requests() == {("GET", "/x", "200"): 6.0}


@pytest.mark.parametrize("app", [answers(), answers("404 Not Found"), answers("500 Oops"), raises(ValueError())])
def test_queue_time_is_recorded_with_each_outcome_of_a_request(app: Any, clock: Clock) -> None:
    """In gunicorn's own worker a request that queue_seconds is counted as one, whatever becomes of it."""
    with Bench(make=partial(one_at_a_time, queue_header=KEY)) as bench:
        bench.send(b"GET /x HTTP/1.1\r\nHost: localhost\r\nX-Request-Start: t=1699999998\r\n\r\n", app)
        assert queue(bench) == (2.0, buckets(le_2_5=1.0))
        assert sum(bench.requests().values()) == 1.0
        assert bench.errors.counts == {}


def test_queue_time_of_a_successor_is_added_in_the_same_slot(clock: Clock) -> None:
    """The next worker in the slot adds to what its predecessor has recorded."""
    first = Recorded()
    for recorded in (first, Recorded(slot=first.slot)):
        hooks = one_at_a_time(recorded.recorder, None, recorded.errors, queue_header=KEY)
        serve(hooks, clock, "X-Request-Start: t=1699999998")
    assert queue(first) == (4.0, buckets(le_2_5=2.0))
