"""Quantiles, the past that rates are taken from, and numbers as people read them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise

import pytest

from gunicorn_prom_hooks.status import formatting
from gunicorn_prom_hooks.status.history import KEEP_SECONDS, SPACING_SECONDS, WANTED_SECONDS, Counted, Past
from gunicorn_prom_hooks.status.quantile import quantile

BOUNDS = (1.0, 2.0, 4.0)


@pytest.mark.parametrize(
    ("q", "counts", "expected"),
    [
        (0.5, (10, 0, 0, 0), 0.5),
        (0.9, (10, 0, 0, 0), 0.9),
        (0.5, (0, 10, 0, 0), 1.5),
        (0.5, (5, 5, 0, 0), 1.0),
        (0.75, (5, 5, 0, 0), 1.5),
        (0.99, (50, 0, 50, 0), 3.96),
        (0.5, (0, 0, 1, 0), 3.0),
        (0.99, (1, 0, 0, 1), 4.0),
        (0.5, (0, 0, 0, 3), 4.0),
        (1.0, (1, 1, 1, 0), 4.0),
    ],
)
def test_quantiles_are_those_of_prometheus(q: float, counts: tuple[float, ...], expected: float) -> None:
    """Interpolated in the bucket, from 0 in the first; the last bound for what lies beyond it."""
    assert quantile(q, BOUNDS, counts) == pytest.approx(expected)


def look(clock: float, requests: float = 0.0, **endpoints: float) -> Counted:
    """A look at this time."""
    return Counted(clock, requests, 0.0, {("GET", name): count for name, count in endpoints.items()}, {})


def past(*clocks: float) -> Past:
    """The past after looks at these times."""
    found = Past()
    for clock in clocks:
        found.keep(look(clock))
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
    kept = [entry[0].clock for entry in found._kept]
    assert len(kept) <= KEEP_SECONDS / SPACING_SECONDS + 1
    assert kept[-1] - kept[0] <= KEEP_SECONDS * 1.2
    gaps = [later - earlier for earlier, later in pairwise(kept)]
    assert min(gaps) >= SPACING_SECONDS - 1e-9
    assert WANTED_SECONDS < KEEP_SECONDS


def test_names_of_endpoints_are_kept_once() -> None:
    """A look costs a number per endpoint."""
    found = Past()
    for clock in range(100):
        found.keep(look(float(clock), **{f"/{number}": 1.0 for number in range(500)}))
    assert len(found._places) == 500
    assert sum(sys.getsizeof(counts) for _, counts in found._kept) < 61 * 500 * 10


def test_endpoints_that_come_later() -> None:
    """Each look gives the counts as they were then; what was not there yet is missing."""
    found = Past()
    found.keep(look(100.0, a=1.0))
    found.keep(look(105.0, b=2.0, a=3.0))
    first, second = found.before(105.5), found.before(115.0)
    assert first is not None
    assert second is not None
    assert first.endpoints == {("GET", "a"): 1.0}
    assert second.endpoints == {("GET", "a"): 3.0, ("GET", "b"): 2.0}


@pytest.mark.parametrize(
    ("show", "value", "expected"),
    [
        (formatting.duration, None, "n/a"),
        (formatting.duration, 0.0, "0 ms"),
        (formatting.duration, 0.0422, "42 ms"),
        (formatting.duration, 0.9996, "1.0 s"),
        (formatting.duration, 1.84, "1.8 s"),
        (formatting.duration, 9.96, "10 s"),
        (formatting.duration, 59.4, "59 s"),
        (formatting.duration, 59.6, "1 min 0 s"),
        (formatting.duration, 3599.6, "1 h 0 min"),
        (formatting.duration, 7325.0, "2 h 2 min"),
        (formatting.duration, 90_000.0, "1 d 1 h"),
        (formatting.latency, 0.00251, "2.5 ms"),
        (formatting.latency, 0.681, "681 ms"),
        (formatting.latency, 60.0, "1 min 0 s"),
        (formatting.count, 1234567, "1,234,567"),
        (formatting.count, None, "n/a"),
        (formatting.rate, 0.0, "0"),
        (formatting.rate, 0.123, "0.12"),
        (formatting.rate, 12.34, "12.3"),
        (formatting.rate, 12345.6, "12,346"),
        (formatting.percent, 12.34, "12.3 %"),
        (formatting.percent, None, "n/a"),
        (formatting.memory, 3 * 2**19, "1.5 MiB"),
        (formatting.memory, 3 * 2**30, "3.00 GiB"),
        (formatting.memory, None, "n/a"),
        (formatting.moment, 1700000000.9, "2023-11-14 22:13:20 UTC"),
        (formatting.machine_moment, 1700000000.9, "2023-11-14T22:13:20Z"),
    ],
)
def test_numbers_for_people(show: Callable[[float | None], str], value: float | None, expected: str) -> None:
    """Each unit as it is written; what is not known is n/a."""
    assert show(value) == expected
