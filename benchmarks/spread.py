"""The middle of some figures, and how far they are spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """The median of some figures and the range of the middle half of them.

    Attributes:
        median: of all.
        low: the first quartile.
        high: the third quartile.
        count: how many figures there are.
    """

    median: float
    low: float
    high: float
    count: int

    @property
    def is_single(self) -> bool:
        """Whether this is one figure, which says nothing about the spread."""
        return self.count < 2


def spread(figures: Sequence[float]) -> Spread:
    """Return median and quartiles of the figures."""
    if len(figures) == 1:
        return Spread(figures[0], figures[0], figures[0], 1)
    low, median, high = statistics.quantiles(figures, n=4, method="inclusive")
    return Spread(median, low, high, len(figures))


def ratios(figures: Sequence[float], to: Sequence[float]) -> Spread:
    """Return the spread of the ratios of figures and others of the same rounds."""
    return spread([one / other for one, other in zip(figures, to, strict=True)])


def differences(figures: Sequence[float], to: Sequence[float]) -> Spread:
    """Return the spread of the differences between figures and others of the same rounds."""
    return spread([one - other for one, other in zip(figures, to, strict=True)])
