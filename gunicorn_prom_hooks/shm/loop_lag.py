"""Arithmetic of a timer that is late: the samples that it stands for, for the worker and for a scrape meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .schema import LAG_BUCKETS

PERIOD_SECONDS: Final = 0.5
"""Time between two samples of an event loop that is not blocked."""


def samples(lag: float) -> tuple[int, float, float]:
    """Return number, smallest and sum of the samples that one timer stands for.

    A blocked loop keeps the timer from being set again, so those that would have been due meanwhile are added: a timer
    that comes 1.2 s late stands for lags of 1.2, 0.7 and 0.2 s. So samples tell how long an event has to wait that
    becomes ready at any moment.

    Args:
        lag: seconds by which the timer is late, 0.0 or more.
    """
    missed = int(lag / PERIOD_SECONDS)
    smallest = max(0.0, lag - missed * PERIOD_SECONDS)
    return missed + 1, smallest, (missed + 1) * (lag + smallest) / 2


def per_bucket(lag: float) -> Sequence[int]:
    """Return the samples that one timer stands for per bucket of ``LAG_BUCKETS``, not cumulative, the last +Inf."""
    number, smallest, _ = samples(lag)
    counts = []
    below = 0
    for bound in LAG_BUCKETS:
        up_to = 0 if bound < smallest else min(number, int((bound - smallest) / PERIOD_SECONDS) + 1)
        counts.append(up_to - below)
        below = up_to
    return [*counts, number - below]
