"""Requests in progress, as the master reads them from shared memory."""

from __future__ import annotations

from typing import NamedTuple


class InFlightRequest(NamedTuple):
    """A request that a worker is processing.

    Attributes:
        start: monotonic seconds.
        method: of the request, cut to fit the in-flight table.
        path: of the request, cut to fit the in-flight table.
    """

    start: float
    method: str
    path: str


class Untracked(NamedTuple):
    """Requests in progress without an entry in the in-flight table.

    Attributes:
        number: of requests.
        starts: sum of their starts in monotonic seconds; infinite if it could not be read.
    """

    number: int
    starts: float

    def seconds(self, clock: float) -> float:
        """Return the sum of their ages in seconds at this time of the monotonic clock."""
        return max(0.0, self.number * clock - self.starts)
