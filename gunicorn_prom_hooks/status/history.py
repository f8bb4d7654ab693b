"""What had been counted at earlier looks at the server, so that there are rates."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

KEEP_SECONDS: Final = 60.0
"""How long a look is remembered."""
WANTED_SECONDS: Final = 10.0
"""Rates are taken over at least this time if there is a look that old."""
SPACING_SECONDS: Final = 1.0
"""Looks that are remembered are at least this far apart, and rates are over no less."""

Key = tuple[str, str]
"""Method and endpoint."""


@dataclass(frozen=True)
class Counted:
    """What had been counted at one moment.

    Attributes:
        clock: monotonic seconds.
        requests: of all workers.
        failed: those of them that failed.
        endpoints: requests by method and endpoint.
        cpu: seconds that workers have used, by their serial number.
    """

    clock: float
    requests: float
    failed: float
    endpoints: Mapping[Key, float]
    cpu: Mapping[int, float]


class Past:
    """Some earlier looks at the server; at most one a second, and none older than a minute."""

    def __init__(self) -> None:
        self._kept: deque[tuple[Counted, array[float]]] = deque(maxlen=int(KEEP_SECONDS / SPACING_SECONDS) + 1)
        self._places: dict[Key, int] = {}
        """Where in each array an endpoint's count is: the names are kept once, whoever looks how often."""

    def keep(self, now: Counted) -> None:
        """Remembers this look, unless there was one just before."""
        if self._kept and now.clock - self._kept[-1][0].clock < SPACING_SECONDS:
            return
        for key in now.endpoints:
            self._places.setdefault(key, len(self._places))
        counts = array("d", [now.endpoints.get(key, 0.0) for key in self._places])
        self._kept.append((Counted(now.clock, now.requests, now.failed, {}, now.cpu), counts))

    def before(self, clock: float) -> Counted | None:
        """The look to take rates from at this moment: one that is old enough, or else the oldest there is."""
        while self._kept and clock - self._kept[0][0].clock > KEEP_SECONDS:
            self._kept.popleft()
        found = None
        for kept in self._kept:
            age = clock - kept[0].clock
            if age >= WANTED_SECONDS or (found is None and age >= SPACING_SECONDS):
                found = kept
        if found is None:
            return None
        look, counts = found
        endpoints = dict(zip(self._places, counts, strict=False))
        return Counted(look.clock, look.requests, look.failed, endpoints, look.cpu)
