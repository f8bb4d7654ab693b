"""The read side of a slot: what its worker counted, what it is at, and what it left undone when it died."""

from __future__ import annotations

from typing import NamedTuple, cast

from .directory import CorruptDirectory, Entry, decode, written
from .families import PATHS
from .layout import (
    CELLS_AT,
    COUNTED,
    DIED_ON,
    DIED_START,
    DIRECTORY_BYTES,
    INFLIGHT_BYTES,
    INFLIGHT_ENTRIES,
    INFLIGHT_TEXT,
    KNOWN,
    NOWHERE,
    UNTRACKED,
)
from .slot import Slot, inflight_offset, inflight_start


class InFlight(NamedTuple):
    """A request that a worker is at: start in monotonic seconds, method and path as text, cut to fit."""

    start: float
    method: str
    path: str


class SlotReader:
    """The read side. Remembers what it has parsed: each look costs only what is new."""

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.entries: list[Entry] = []
        self.corrupt = False
        """Something else has written into the slot: no more is read of its directory."""
        self._failures = 0
        self._parsed = 0
        self._used = 0
        self._paths: dict[float, tuple[str, str]] = {}

    def update(self) -> list[Entry]:
        """The entries that are new since the last call.

        Raises:
            CorruptDirectory: something else has written into the slot. It is said twice, since on a processor that
                reorders stores the first time may be a moment's; from then on there is nothing new, and what was
                read before stays.
        """
        if self.corrupt:
            return []
        try:
            end = written(self.slot.directory, self.slot.header[DIRECTORY_BYTES], self._parsed)
            new = list(decode(self.slot.directory, self._parsed, end))
        except CorruptDirectory:
            self._failures += 1
            self.corrupt = self._failures > 1
            raise
        self._failures = 0
        self._parsed = end
        self.entries += new
        self._paths.update(
            (CELLS_AT // 8 + entry.first, (entry.labels[0], entry.labels[1]))
            for entry in new
            if entry.family == PATHS.number
        )
        if new:
            self._used = new[-1].first + new[-1].cells
        return new

    def values(self) -> list[float]:
        """A copy of all cells that the entries parsed so far speak of."""
        return cast("list[float]", self.slot.cells[: self._used].tolist())

    def in_flight(self) -> list[InFlight]:
        """The requests in the in-flight table, oldest first."""
        words = self.slot.words
        found = []
        for number in range(INFLIGHT_ENTRIES):
            at = inflight_start(number)
            start = words[at]
            if start > 0.0:
                request = InFlight(start, *self._request(number))
                if words[at] == start:  # else it has ended meanwhile, and the entry may be another one's
                    found.append(request)
        return sorted(found)

    def died_on(self) -> list[InFlight]:
        """The requests that a worker which is gone was at, oldest first: in progress, or ended by its own end.

        Raises:
            CorruptDirectory: something else has written into the slot.
        """
        found = self.in_flight()
        number, odd = divmod(self.slot.header[DIED_ON] - inflight_start(0), INFLIGHT_BYTES // 8)
        if not odd and 0 <= number < INFLIGHT_ENTRIES:
            found.append(InFlight(self.slot.header[DIED_START], *self._request(int(number))))
        return sorted(set(found))

    def finish(self) -> int:
        """Counts the requests that a worker which is gone had answered and was about to count; says how many.

        Raises:
            CorruptDirectory: something else has written into the slot.
        """
        self.update()
        words = self.slot.words
        finished = 0
        for number in range(NOWHERE + 1):
            at = inflight_start(number)
            cell = -words[at]
            if not 0.0 <= cell - CELLS_AT // 8 < self._used or not cell.is_integer():
                continue
            if words[at + COUNTED] == words[int(cell)] + 1.0:
                words[int(cell)] += 1.0
                finished += 1
        return finished

    def _request(self, number: int) -> tuple[str, str]:
        """Method and path of an in-flight entry."""
        known = self.slot.words[inflight_start(number) + KNOWN]
        if known:
            if known not in self._paths:
                self.update()
            return self._paths.get(known, ("", ""))
        method, path = INFLIGHT_TEXT.unpack_from(self.slot.memory, inflight_offset(number))
        return _text(method), _text(path)

    def untracked(self) -> int:
        """Number of requests in progress that have no entry in the in-flight table."""
        return max(0, int(self.slot.header[UNTRACKED]))


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("utf-8", "replace")
