"""Cumulative buckets and quantiles."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gunicorn_prom_hooks.collectors.histogram import coarser, cumulative, quantile
from gunicorn_prom_hooks.shm.schema import DEFAULT_BUCKETS, WORKER_DURATION_BUCKETS

BOUNDS = DEFAULT_BUCKETS.bounds


def test_cumulative_buckets_include_all_lower_buckets() -> None:
    """Each bucket has all that is at most its bound, and +Inf has everything."""
    assert cumulative((0.1, 1.0), (3.0, 0.0, 2.0)) == [("0.1", 3.0), ("1.0", 3.0), ("+Inf", 5.0)]


@settings(deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=len(BOUNDS) + 1, max_size=len(BOUNDS) + 1))
def test_coarser_buckets_have_the_counts_of_the_finer_ones(counts: list[float]) -> None:
    """The per-worker histogram has the published bounds, each with the number that the finer one has there."""
    fine = dict(cumulative(BOUNDS, counts))
    coarse = coarser(BOUNDS, counts, WORKER_DURATION_BUCKETS)
    assert [name for name, _ in coarse] == ["0.1", "0.5", "1.0", "2.5", "5.0", "10.0", "30.0", "60.0", "+Inf"]
    assert all(fine[name] == count for name, count in coarse)
    assert coarse[-1][1] == sum(counts)
    for (_, count), (_, next_count) in pairwise(coarse):
        assert count <= next_count


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
def test_quantile_is_interpolated_as_by_histogram_quantile(
    q: float, counts: tuple[float, ...], expected: float
) -> None:
    """Interpolated in the bucket, from 0 in the first; the last bound beyond it."""
    assert quantile(q, (1.0, 2.0, 4.0), counts) == pytest.approx(expected)
