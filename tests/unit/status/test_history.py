"""Samples of the totals, for the rates."""

from __future__ import annotations

import sys
from itertools import pairwise

import pytest

from gunicorn_prom_hooks.status.history import KEEP_SECONDS, SPACING_SECONDS, WANTED_SECONDS, History, TotalsSample


def sample_at(clock: float, requests: float = 0.0, **endpoints: float) -> TotalsSample:
    """Return a sample at this time."""
    return TotalsSample(clock, requests, 0.0, {("GET", name): count for name, count in endpoints.items()}, {})


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
        ((100.0, 102.0, 104.0), 106.0, 100.0),
        ((100.0, 102.0, 104.0, 106.0), 114.5, 104.0),
        ((100.0, 130.0), 135.0, 100.0),
        ((100.0, 130.0), 140.0, 130.0),
        ((100.0,), 159.0, 100.0),
        ((100.0,), 161.0, None),
        ((100.0, 100.9, 101.5), 102.0, 100.0),
    ],
)
def test_before_is_the_latest_sample_that_is_old_enough_or_the_oldest(
    clocks: tuple[float, ...], now: float, expected: float | None
) -> None:
    """The latest one that is at least ten seconds old, else the oldest; none that is older than a minute."""
    found = history_of(*clocks).before(now)
    assert (found and found.clock) == expected


def test_history_keeps_a_minute_of_samples_one_second_apart() -> None:
    """However often pages are loaded, a minute is kept, with one sample a second."""
    found = history_of(*(number * 0.1 for number in range(20_000)))
    kept = [entry[0].clock for entry in found._samples]
    assert len(kept) <= KEEP_SECONDS / SPACING_SECONDS + 1
    assert kept[-1] - kept[0] <= KEEP_SECONDS * 1.2
    gaps = [later - earlier for earlier, later in pairwise(kept)]
    assert min(gaps) >= SPACING_SECONDS - 1e-9
    assert WANTED_SECONDS < KEEP_SECONDS


def test_names_of_endpoints_are_kept_once() -> None:
    """A sample costs a number per endpoint."""
    found = History()
    for clock in range(100):
        found.add(sample_at(float(clock), **{f"/{number}": 1.0 for number in range(500)}))
    assert len(found._places) == 500
    assert sum(sys.getsizeof(counts) for _, counts in found._samples) < 61 * 500 * 10


def test_sample_lacks_endpoints_that_came_later() -> None:
    """Each sample has the counts as they were then, and no endpoint that came later."""
    found = History()
    found.add(sample_at(100.0, a=1.0))
    found.add(sample_at(105.0, b=2.0, a=3.0))
    first, second = found.before(105.5), found.before(115.0)
    assert first is not None
    assert second is not None
    assert first.endpoints == {("GET", "a"): 1.0}
    assert second.endpoints == {("GET", "a"): 3.0, ("GET", "b"): 2.0}
