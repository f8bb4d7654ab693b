"""Numbers and times as text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gunicorn_prom_hooks.status import formatting


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
        (formatting.bound, 0.0001, "0.1 ms"),
        (formatting.bound, 0.001, "1 ms"),
        (formatting.bound, 0.0025, "2.5 ms"),
        (formatting.bound, 1.25, "1.25 s"),
        (formatting.bound, 90.0, "90 s"),
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
def test_each_unit_is_formatted_and_unknown_is_na(
    show: Callable[[float | None], str], value: float | None, expected: str
) -> None:
    """Each unit as it is written; an unknown value is n/a."""
    assert show(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "n/a"),
        (0.0, "< 1 ms"),
        (0.001, "< 1 ms"),
        (0.0011, "1.1 ms"),
        (0.00251, "2.5 ms"),
        (0.681, "681 ms"),
        (59.4, "59 s"),
        (60.0, "> 60 s"),
        (75.0, "> 60 s"),
    ],
)
def test_latency_in_the_lowest_bucket_or_above_the_highest_is_its_bound(seconds: float | None, expected: str) -> None:
    """A percentile in the lowest bucket is less than its bound, one above the highest bound more than that."""
    assert formatting.latency(seconds, 0.001, 60.0) == expected
