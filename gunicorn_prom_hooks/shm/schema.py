"""The families of series that workers record: their label names and their cells.

A request is recorded in one row. Its labels and its two size classes choose the row, its duration the cells. One store
into one bucket counts the request. Totals, the duration histogram and both size histograms are computed from that
number. So they always agree, and a worker that is killed cannot have counted half a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..model.counts import DurationBuckets
from ..settings import DEFAULT_DURATION_BUCKETS

OTHER: Final = "<other>"
"""Replaces the values of a label beyond the maximum number."""
UNMATCHED: Final = "<unmatched>"
"""The endpoint of a request that no route matches, or that could not be parsed."""

WORKER_DURATION_BUCKETS: Final = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the per-worker histogram in seconds. No setting changes them."""
SIZE_BUCKETS: Final = (1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0)
"""Upper bounds in bytes of a request or response body."""
UNKNOWN_SIZE: Final = len(SIZE_BUCKETS) + 1
"""Size class of a body of unknown length, which is in no size histogram. Class n is bucket n, the last one +Inf."""
_SIZE_LABELS: Final = tuple(str(number) for number in range(UNKNOWN_SIZE + 1))
_SIZE_CLASSES: Final = {label: number for number, label in enumerate(_SIZE_LABELS)}


@dataclass(frozen=True)
class Family:
    """A group of series with the same label names.

    Attributes:
        number: stands for the family in a slot's directory; never reused.
        labels: names of its labels.
        cells: cells of one series, without those of ``has_durations``.
        has_durations: after these cells, a series has one cell for each duration bucket, not cumulative, the last +Inf.
    """

    number: int
    labels: tuple[str, ...]
    cells: int = 1
    has_durations: bool = False

    def width(self, bounds: Sequence[float]) -> int:
        """Return the number of cells of one series, with these bounds of duration buckets."""
        return self.cells + (len(bounds) + 1 if self.has_durations else 0)


DURATION_SUM: Final = 0
REQUEST_SIZE_SUM: Final = 1
RESPONSE_SIZE_SUM: Final = 2
FIRST_BUCKET: Final = 3
COUNTS: Final = slice(FIRST_BUCKET, None)

REQUESTS: Final = Family(
    1, ("method", "endpoint", "status", "request_size", "response_size"), FIRST_BUCKET, has_durations=True
)
"""Cells: sum of seconds, of bytes in, of bytes out, then a count per duration bucket.

The sums and the first bucket are adjacent: most requests write to one cache line.
"""
FAILED: Final = Family(2, ("method", "endpoint", "error_type"))
ERROR_HANDLING: Final = Family(3, ("method", "endpoint", "error_type"))
INVALID: Final = Family(4, ("error_type",))
EXPORTER_ERRORS: Final = Family(5, ("where",))
OVERFLOWED: Final = Family(6, ("label",))
MAX_PATHS: Final = 512
PATHS: Final = Family(7, ("method", "path"))
"""Method and path of requests, for references in the in-flight table. The cell gives each pair a number."""
LOG_MESSAGES: Final = Family(8, ("level",))
QUEUE: Final = Family(9, (), 1, has_durations=True)
"""Cells: sum of seconds, then a count per duration bucket."""
WEBSOCKETS: Final = Family(10, ("endpoint",), 2)
"""Cells: opened, closed."""
LAG_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds."""
LAG_PERIOD_SECONDS: Final = 0.5
"""Time between two samples of an event loop that is not blocked."""
LOOP_LAG: Final = Family(11, (), 1 + len(LAG_BUCKETS) + 1)
"""Cells: sum of seconds, then a count per bucket of ``LAG_BUCKETS``, not cumulative, the last +Inf."""
PER_WORKER: Final = (FAILED, ERROR_HANDLING, WEBSOCKETS, LOOP_LAG)
"""Families that are also exposed per worker. Of ``REQUESTS`` the sum over all rows is."""
LEVELS: Final = ("critical", "error", "warning", "info", "debug")


def duration_buckets(published: Sequence[float]) -> DurationBuckets:
    """Return the duration buckets of a server whose histograms of requests are to have these bounds."""
    return DurationBuckets(tuple(sorted({*published, *WORKER_DURATION_BUCKETS})), tuple(published))


DEFAULT_BUCKETS: Final = duration_buckets(DEFAULT_DURATION_BUCKETS)


def size_label(size_class: int) -> str:
    """Return the label value of a size class in ``REQUESTS``: one character, since a directory has many of them."""
    return _SIZE_LABELS[size_class]


def size_class(label: str) -> int:
    """Return the size class of a label value; ``UNKNOWN_SIZE`` for any other value, such as ``OTHER``."""
    return _SIZE_CLASSES.get(label, UNKNOWN_SIZE)


def lag_samples(lag: float) -> tuple[int, float, float]:
    """Return number, smallest and sum of the lag samples of one late timer.

    A blocked loop does not set the timer again, so the samples that it missed are added: a timer that is 1.2 s late
    stands for lags of 1.2, 0.7 and 0.2 s. So the samples are the waiting times of events that become ready at random
    moments.

    Args:
        lag: seconds by which the timer is late, 0.0 or more.
    """
    missed = int(lag / LAG_PERIOD_SECONDS)
    smallest = max(0.0, lag - missed * LAG_PERIOD_SECONDS)
    return missed + 1, smallest, (missed + 1) * (lag + smallest) / 2


def lag_samples_per_bucket(lag: float) -> Sequence[int]:
    """Return the lag samples of one late timer per bucket of ``LAG_BUCKETS``, not cumulative, the last +Inf."""
    number, smallest, _ = lag_samples(lag)
    counts = []
    below = 0
    for bound in LAG_BUCKETS:
        up_to = 0 if bound < smallest else min(number, int((bound - smallest) / LAG_PERIOD_SECONDS) + 1)
        counts.append(up_to - below)
        below = up_to
    return [*counts, number - below]
