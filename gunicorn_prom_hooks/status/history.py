"""Samples of the totals at earlier page loads, for the rates."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..collectors.requests import Key

KEEP_SECONDS: Final = 60.0
"""Time for which a sample is kept."""
WANTED_SECONDS: Final = 10.0
"""Rates are taken over at least this time if there is a sample that old."""
SPACING_SECONDS: Final = 1.0
"""Samples are at least this far apart, and rates are over no less."""


@dataclass(frozen=True)
class TotalsSample:
    """The totals at one moment.

    Attributes:
        clock: monotonic seconds.
        requests: number of requests of all workers.
        failed: number of them that failed.
        endpoints: requests by method and endpoint.
        cpu: CPU seconds used by workers, by their serial number.
    """

    clock: float
    requests: float
    failed: float
    endpoints: Mapping[Key, float]
    cpu: Mapping[int, float]


class History:
    """Samples of the totals: at most one per second, kept for a minute."""

    def __init__(self) -> None:
        self._samples: deque[tuple[TotalsSample, array[float]]] = deque(maxlen=int(KEEP_SECONDS / SPACING_SECONDS) + 1)
        self._places: dict[Key, int] = {}
        """Index of an endpoint's count in each array: the names are kept once, not in each sample."""

    def add(self, sample: TotalsSample) -> None:
        """Keep this sample, unless there was one less than ``SPACING_SECONDS`` before."""
        if self._samples and sample.clock - self._samples[-1][0].clock < SPACING_SECONDS:
            return
        for key in sample.endpoints:
            self._places.setdefault(key, len(self._places))
        counts = array("d", [sample.endpoints.get(key, 0.0) for key in self._places])
        self._samples.append((TotalsSample(sample.clock, sample.requests, sample.failed, {}, sample.cpu), counts))

    def before(self, clock: float) -> TotalsSample | None:
        """Return the sample to take rates from: the latest that is old enough, or else the oldest; None without any."""
        while self._samples and clock - self._samples[0][0].clock > KEEP_SECONDS:
            self._samples.popleft()
        found = None
        for kept in self._samples:
            age = clock - kept[0].clock
            if age >= WANTED_SECONDS or (found is None and age >= SPACING_SECONDS):
                found = kept
        if found is None:
            return None
        sample, counts = found
        endpoints = dict(zip(self._places, counts, strict=False))
        return TotalsSample(sample.clock, sample.requests, sample.failed, endpoints, sample.cpu)
