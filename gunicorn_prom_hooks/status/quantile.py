"""Quantiles of a histogram, as Prometheus's ``histogram_quantile`` has them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate


def quantile(q: float, bounds: Sequence[float], counts: Sequence[float]) -> float:
    """The value that this share of the observations does not exceed, taken to lie evenly in their bucket.

    Args:
        q: between 0 and 1.
        bounds: upper bounds of the buckets, the first of which begins at 0.
        counts: observations per bucket, not cumulative, with one more for +Inf; not all of them 0.

    Returns:
        The value; the last of the bounds if it lies beyond that.
    """
    rank = q * sum(counts)
    lower = 0.0
    for upper, count, below in zip(bounds, counts, accumulate(counts, initial=0.0), strict=False):
        if count and below + count >= rank:
            return lower + (upper - lower) * (rank - below) / count
        lower = upper
    return bounds[-1]
