"""Histograms: cumulative buckets as the exposition format has them, and quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from ..model.counts import DurationBuckets


def cumulative(bounds: Sequence[float], counts: Sequence[float]) -> list[tuple[str, float]]:
    """Return cumulative buckets with their ``le``; ``counts`` has one more than ``bounds``, for +Inf."""
    return list(zip(_names(tuple(bounds)), accumulate(counts), strict=True))


def coarser(bounds: Sequence[float], counts: Sequence[float], wanted: Sequence[float]) -> list[tuple[str, float]]:
    """Return cumulative buckets for the wanted bounds, which are some of ``bounds``."""
    fine = dict(cumulative(bounds, counts))
    return [(name, fine[name]) for name in _names(tuple(wanted))]


def published(buckets: DurationBuckets, counts: Sequence[float]) -> list[tuple[str, float]]:
    """Return cumulative buckets with the published bounds. ``counts`` is per bucket of ``bounds``, the last +Inf."""
    if buckets.published == buckets.bounds:
        return cumulative(buckets.bounds, counts)
    return coarser(buckets.bounds, counts, buckets.published)


def add(
    family: HistogramMetricFamily,
    labels: dict[str, str],
    buckets: list[tuple[str, float]],
    total: float,
    created: float | None = None,
) -> None:
    """Add cumulative buckets as the family's ``add_metric`` does, in half the time: there are thousands of them.

    ``created`` is the unix time in seconds at which the series began, or None to leave it out.
    """
    name = family.name
    bucket = name + "_bucket"
    family.samples += [Sample(bucket, {**labels, "le": le}, count) for le, count in buckets]
    family.samples += [Sample(name + "_count", labels, buckets[-1][1]), Sample(name + "_sum", labels, total)]
    if created is not None:
        family.samples.append(Sample(name + "_created", labels, created))


def quantile(q: float, bounds: Sequence[float], counts: Sequence[float]) -> float:
    """Return a quantile as Prometheus's ``histogram_quantile`` does: interpolated linearly within its bucket.

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


@lru_cache
def _names(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return (*map(floatToGoString, bounds), "+Inf")
