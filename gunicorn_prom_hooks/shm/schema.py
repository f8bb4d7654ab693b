"""The table of what a worker records: a family is a kind of series, its label names and its cells.

A request is recorded as one row: its labels, its two size classes, and in the row's cells its duration. One
store into one bucket is what counts it; totals, duration histogram and both size histograms are all read off that
one number, so they cannot disagree, and a worker that is killed cannot have counted half a request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OTHER: Final = "<other>"
"""What a label value becomes when its label has too many of them."""
UNMATCHED: Final = "<unmatched>"
"""The endpoint of a request that no route was found for, or that could not be parsed."""

DURATION_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0)
"""Upper bounds in seconds. Those of the per-worker histogram are among them."""
WORKER_DURATION_BUCKETS: Final = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZE_BUCKETS: Final = (1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0)
"""Upper bounds in bytes, of the body."""
UNKNOWN_SIZE: Final = len(SIZE_BUCKETS) + 1
"""Size class of a body of unknown length: in no size histogram. Class n is bucket n, the last one +Inf."""
_SIZE_LABELS: Final = tuple(str(number) for number in range(UNKNOWN_SIZE + 1))
_SIZE_CLASSES: Final = {label: number for number, label in enumerate(_SIZE_LABELS)}


@dataclass(frozen=True)
class Family:
    """A kind of series.

    Attributes:
        number: what stands for it in a slot's directory; never given to another family.
        labels: names of its labels.
        cells: cells of one series.
    """

    number: int
    labels: tuple[str, ...]
    cells: int = 1


BUCKETS: Final = len(DURATION_BUCKETS) + 1
DURATION_SUM: Final = 0
REQUEST_SIZE_SUM: Final = 1
RESPONSE_SIZE_SUM: Final = 2
FIRST_BUCKET: Final = 3
COUNTS: Final = slice(FIRST_BUCKET, FIRST_BUCKET + BUCKETS)

REQUESTS: Final = Family(1, ("method", "endpoint", "status", "request_size", "response_size"), FIRST_BUCKET + BUCKETS)
"""Cells: sum of seconds, of bytes in, of bytes out, then a count per duration bucket, not cumulative, the last +Inf.

The sums and the bucket of the fast requests are neighbours: most requests touch one line of memory.
"""
FAILED: Final = Family(2, ("method", "endpoint", "error_type"))
ERROR_HANDLING: Final = Family(3, ("method", "endpoint", "error_type"))
INVALID: Final = Family(4, ("error_type",))
EXPORTER_ERRORS: Final = Family(5, ("where",))
OVERFLOWED: Final = Family(6, ("label",))
MAX_PATHS: Final = 512
PATHS: Final = Family(7, ("method", "path"))
"""Requests that the in-flight table names by number: the cell is only there to give them one."""
LOG_MESSAGES: Final = Family(8, ("level",))
QUEUE: Final = Family(9, (), 1 + BUCKETS)
"""Cells: sum of seconds, then a count per duration bucket, as in ``REQUESTS``."""
WEBSOCKETS: Final = Family(10, ("endpoint",), 2)
"""Cells: opened, closed."""
LAG_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds."""
LOOP_LAG: Final = Family(11, (), 1 + len(LAG_BUCKETS) + 1)
"""Cells: sum of seconds, then a count per bucket of ``LAG_BUCKETS``, not cumulative, the last +Inf."""
PER_WORKER: Final = (FAILED, ERROR_HANDLING, WEBSOCKETS, LOOP_LAG)
"""Families that are shown for single workers, too; of ``REQUESTS`` the sum over all rows is."""
LEVELS: Final = ("critical", "error", "warning", "info", "debug")


def size_label(size_class: int) -> str:
    """Return the label value of a size class in ``REQUESTS``: one character, since a directory has many of them."""
    return _SIZE_LABELS[size_class]


def size_class(label: str) -> int:
    """Return the size class of a label value; ``UNKNOWN_SIZE`` for any other value, such as ``OTHER``."""
    return _SIZE_CLASSES.get(label, UNKNOWN_SIZE)
