"""Samples of the totals at earlier page loads, for the rates and the latency of the last minute."""

from __future__ import annotations

import dataclasses
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..collectors.requests import Key

KEEP_SECONDS: Final = 60.0
"""Time for which a sample is kept, and so the longest period of the rates."""
SPACING_SECONDS: Final = 10.0
"""Minimum time between two samples."""
SHORTEST_SECONDS: Final = 1.0
"""The shortest period of the rates."""


@dataclass(frozen=True)
class TotalsSample:
    """The totals at one moment.

    Attributes:
        clock: monotonic seconds.
        requests: number of requests of all workers.
        failed: number of them that failed.
        endpoints: by method and endpoint, requests per duration bucket, not cumulative, the last +Inf.
        cpu: CPU seconds used by workers, by their serial number.
        lags: samples of the event loop's lag per bucket, likewise.
    """

    clock: float
    requests: float
    failed: float
    endpoints: Mapping[Key, Sequence[float]]
    cpu: Mapping[int, float]
    lags: Mapping[int, Sequence[float]]


@dataclass(frozen=True)
class _Kept:
    """A sample as it is kept.

    Attributes:
        sample: without its endpoints.
        endpoints: these, in the order of their places.
    """

    sample: TotalsSample
    endpoints: Sequence[array[float]]


class History:
    """Samples of the totals: at most one per ``SPACING_SECONDS``, kept for a minute.

    There are at most 7 samples. The names of endpoints are kept once, for all samples.
    A sample has an array of 8 bytes per duration bucket for each method and endpoint. An endpoint without a request
    since the sample before shares its array with that sample. So 200 busy endpoints with one method each take 350 KB
    with the default buckets, and an idle one takes 8 bytes per sample.
    """

    def __init__(self) -> None:
        self._samples: deque[_Kept] = deque(maxlen=int(KEEP_SECONDS / SPACING_SECONDS) + 1)
        self._places: dict[Key, int] = {}
        """Index of an endpoint in the samples. One that came later is not in the earlier samples."""

    def add(self, sample: TotalsSample) -> None:
        """Keep this sample, unless there was one less than ``SPACING_SECONDS`` before."""
        last = self._samples[-1] if self._samples else None
        if last is not None and sample.clock - last.sample.clock < SPACING_SECONDS:
            return
        for key in sample.endpoints:
            self._places.setdefault(key, len(self._places))
        endpoints = [array("d", sample.endpoints.get(key, ())) for key in self._places]
        if last is not None:
            for place, known in enumerate(last.endpoints):
                if endpoints[place] == known:
                    endpoints[place] = known
        self._samples.append(_Kept(dataclasses.replace(sample, endpoints={}), endpoints))

    def before(self, clock: float) -> TotalsSample | None:
        """Return the sample at which the period begins: the oldest, at most a minute ago; None without any."""
        while self._samples and clock - self._samples[0].sample.clock > KEEP_SECONDS:
            self._samples.popleft()
        if not self._samples or clock - self._samples[0].sample.clock < SHORTEST_SECONDS:
            return None
        oldest = self._samples[0]
        return dataclasses.replace(oldest.sample, endpoints=dict(zip(self._places, oldest.endpoints, strict=False)))
