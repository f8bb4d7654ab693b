"""Samples of the totals, for the rates."""

from __future__ import annotations

import sys
from itertools import pairwise

import pytest

from gunicorn_prom_hooks.status.history import KEEP_SECONDS, SPACING_SECONDS, WANTED_SECONDS, History, TotalsSample


def look(clock: float, requests: float = 0.0, **endpoints: float) -> TotalsSample:
    """A look at this time."""
    return TotalsSample(clock, requests, 0.0, {("GET", name): count for name, count in endpoints.items()}, {})


def past(*clocks: float) -> History:
    """The past after looks at these times."""
    found = History()
    for clock in clocks:
        found.add(look(clock))
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
def test_which_look_rates_are_taken_from(clocks: tuple[float, ...], now: float, expected: float | None) -> None:
    """The latest one that is at least ten seconds old, else the oldest; none that is older than a minute."""
    found = past(*clocks).before(now)
    assert (found and found.clock) == expected


def test_the_past_is_bounded() -> None:
    """However often and for how long anybody looks, a minute is kept and one look a second."""
    found = past(*(number * 0.1 for number in range(20_000)))
    kept = [entry[0].clock for entry in found._samples]
    assert len(kept) <= KEEP_SECONDS / SPACING_SECONDS + 1
    assert kept[-1] - kept[0] <= KEEP_SECONDS * 1.2
    gaps = [later - earlier for earlier, later in pairwise(kept)]
    assert min(gaps) >= SPACING_SECONDS - 1e-9
    assert WANTED_SECONDS < KEEP_SECONDS


def test_names_of_endpoints_are_samples_once() -> None:
    """A look costs a number per endpoint."""
    found = History()
    for clock in range(100):
        found.add(look(float(clock), **{f"/{number}": 1.0 for number in range(500)}))
    assert len(found._places) == 500
    assert sum(sys.getsizeof(counts) for _, counts in found._samples) < 61 * 500 * 10


def test_endpoints_that_come_later() -> None:
    """Each look gives the counts as they were then; what was not there yet is missing."""
    found = History()
    found.add(look(100.0, a=1.0))
    found.add(look(105.0, b=2.0, a=3.0))
    first, second = found.before(105.5), found.before(115.0)
    assert first is not None
    assert second is not None
    assert first.endpoints == {("GET", "a"): 1.0}
    assert second.endpoints == {("GET", "a"): 3.0, ("GET", "b"): 2.0}
