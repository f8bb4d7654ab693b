"""What workers counted, and the requests that they are processing, as the master reads them from shared memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import add
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


class DurationBuckets(NamedTuple):
    """Upper bounds of the buckets in which durations are counted, in seconds, ascending, without +Inf.

    Attributes:
        bounds: of the buckets that are counted: those of ``published`` and of the per-worker histogram.
        published: of the histograms of requests; some of ``bounds``.
    """

    bounds: tuple[float, ...]
    published: tuple[float, ...]


Labels = tuple[str, ...]
Rename = Callable[[int, Labels], Labels]
"""Returns the label values to show for a family's number and label values; the same for the same arguments."""


class Tally:
    """Sums of cells by family number and label values.

    Args:
        rename: returns the label values to show.
    """

    def __init__(self, rename: Rename) -> None:
        self._rename = rename
        self._families: dict[int, dict[Labels, list[float]]] = {}
        self._since: dict[tuple[int, Labels], float] = {}

    def series(self, family: int) -> dict[Labels, list[float]]:
        """Return the series of a family: label values to cells."""
        return self._families.get(family, {})

    def since(self, family: int, labels: Labels) -> float:
        """Return the unix time in seconds at which a series began; 0.0: with the server, or not known."""
        return self._since.get((family, labels), 0.0)

    def add(self, family: int, labels: Labels, cells: Sequence[float], since: float = 0.0) -> None:
        """Add the cells of a series. A series of zeros only is left out.

        Args:
            family: number of the family.
            labels: label values, before they are renamed.
            cells: of the series.
            since: unix time in seconds at which it began; 0.0: with the server.
        """
        if any(cells):
            shown = self._rename(family, labels)
            series = self._families.setdefault(family, {})
            known = series.get(shown)
            series[shown] = list(cells) if known is None else list(map(add, known, cells))
            key = family, shown
            self._since[key] = since if known is None else min(since, self._since[key])


@dataclass(frozen=True)
class WorkerCounts:
    """The counts of a live worker, without its predecessors in the same slot, and its requests in progress.

    Attributes:
        requests: sums over the rows of all its requests, cell by cell, in the layout of the schema's ``REQUESTS``.
        tally: the families in the schema's ``PER_WORKER``.
        in_flight: as of ``WorkerSnapshot``.
        untracked: as of ``WorkerSnapshot``.
    """

    requests: Sequence[float]
    tally: Tally
    in_flight: Sequence[InFlightRequest]
    untracked: Untracked

    @property
    def in_progress(self) -> int:
        """The number of requests in progress, those without an entry in the in-flight table included."""
        return len(self.in_flight) + self.untracked.number
