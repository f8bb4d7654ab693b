"""Counts per bucket as the exposition wants them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from prometheus_client.utils import floatToGoString


def cumulative(bounds: Sequence[float], counts: Sequence[float]) -> list[tuple[str, float]]:
    """Cumulative buckets with their ``le``; ``counts`` has one more than ``bounds``, for +Inf."""
    names = [*map(floatToGoString, bounds), "+Inf"]
    return list(zip(names, accumulate(counts), strict=True))


def coarser(bounds: Sequence[float], counts: Sequence[float], wanted: Sequence[float]) -> list[tuple[str, float]]:
    """The same for some of the bounds only."""
    fine = dict(cumulative(bounds, counts))
    return [(name, fine[name]) for name in [*map(floatToGoString, wanted), "+Inf"]]
