"""Samples of the totals, for the rates and the latency."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from itertools import pairwise

import pytest

from gunicorn_prom_hooks.shm.schema import DEFAULT_BUCKETS
from gunicorn_prom_hooks.status.history import KEEP_SECONDS, SPACING_SECONDS, History, TotalsSample

SAMPLES = int(KEEP_SECONDS / SPACING_SECONDS) + 1


def sample_at(clock: float, **endpoints: Sequence[float]) -> TotalsSample:
    """Return a sample at this time."""
    return TotalsSample(clock, 0.0, 0.0, {("GET", name): counts for name, counts in endpoints.items()}, {}, {})


def history_of(*clocks: float) -> History:
    """Return a history with samples at these times."""
    found = History()
    for clock in clocks:
        found.add(sample_at(clock))
    return found


@pytest.mark.parametrize(
    ("clocks", "now", "expected"),
    [
        ((), 100.0, None),
        ((100.0,), 100.5, None),
        ((100.0,), 102.0, 100.0),
        ((100.0, 110.0, 120.0), 126.0, 100.0),
        ((100.0, 130.0), 140.0, 100.0),
        ((100.0,), 160.0, 100.0),
        ((100.0,), 161.0, None),
        ((100.0, 130.0), 161.0, 130.0),
        ((100.0, 109.0, 155.0), 161.0, 155.0),
    ],
)
def test_before_is_the_oldest_sample_of_the_last_minute(
    clocks: tuple[float, ...], now: float, expected: float | None
) -> None:
    """The period begins at the oldest sample, a minute ago at most and a second at least."""
    found = history_of(*clocks).before(now)
    assert (found and found.clock) == expected


def test_period_is_50_to_60_seconds_once_the_page_is_open_for_a_minute() -> None:
    """With a page load every two seconds, the period grows to 60 s, and is at least 50 s from then on."""
    history, periods = History(), []
    for clock in range(0, 400, 2):
        before = history.before(float(clock))
        periods.append(clock - before.clock if before else None)
        history.add(sample_at(float(clock)))
    assert periods[:31] == [None, *range(2, 62, 2)]
    assert {min(filter(None, periods[30:])), max(filter(None, periods[30:]))} == {52, 60}


def test_history_keeps_a_minute_of_samples_ten_seconds_apart() -> None:
    """However often pages are loaded, a minute is kept, with one sample in ten seconds."""
    found = history_of(*(number * 0.1 for number in range(20_000)))
    kept = [entry.sample.clock for entry in found._samples]
    assert len(kept) == SAMPLES
    assert kept[-1] - kept[0] <= KEEP_SECONDS * 1.2
    assert min(later - earlier for earlier, later in pairwise(kept)) >= SPACING_SECONDS - 1e-9


def memory_of(history: History) -> int:
    """Return the bytes of all arrays of a history, and of the lists that refer to them."""
    arrays = {id(counts): sys.getsizeof(counts) for entry in history._samples for counts in entry.endpoints}
    return sum(arrays.values()) + sum(sys.getsizeof(entry.endpoints) for entry in history._samples)


def test_names_of_endpoints_are_kept_once_and_a_count_is_8_bytes() -> None:
    """If all of 200 endpoints have requests all the time, the samples take the 350 KB that the docstring has."""
    found = History()
    buckets = len(DEFAULT_BUCKETS.bounds) + 1
    for clock in range(0, 1000, 5):
        found.add(sample_at(float(clock), **{f"/{number}": [float(clock)] * buckets for number in range(200)}))
    assert len(found._places) == 200
    assert {type(counts) for entry in found._samples for counts in entry.endpoints} == {array}
    assert all(entry.sample.endpoints == {} for entry in found._samples)
    assert memory_of(found) < 350_000


def test_endpoint_without_requests_shares_its_array_with_the_sample_before() -> None:
    """An endpoint whose counts are those of the sample before costs a reference."""
    found = History()
    for clock in range(0, 60, 10):
        idle = {f"/{number}": [1.0] * 19 for number in range(100)}
        found.add(sample_at(float(clock), busy=[float(clock)] * 19, **idle))
    assert len({id(counts) for entry in found._samples for counts in entry.endpoints}) == 100 + 6


def test_sample_lacks_endpoints_that_came_later() -> None:
    """Each sample has the counts as they were then, and no endpoint that came later."""
    found = History()
    found.add(sample_at(100.0, a=[1.0, 0.0]))
    found.add(sample_at(130.0, b=[0.0, 2.0], a=[1.0, 2.0]))
    first, second = found.before(135.0), found.before(165.0)
    assert first is not None
    assert second is not None
    assert {key: list(counts) for key, counts in first.endpoints.items()} == {("GET", "a"): [1.0, 0.0]}
    assert {key: list(counts) for key, counts in second.endpoints.items()} == {
        ("GET", "a"): [1.0, 2.0],
        ("GET", "b"): [0.0, 2.0],
    }
