"""The read side of a slot: what its worker counted, what it is at, and what it left undone when it died."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from math import inf
from typing import Final

from ..model.requests import InFlightRequest, Untracked
from .index import CorruptIndex, Entry, Index, Series, decode, written
from .layout import (
    CELLS_AT,
    DIRECTORY_BYTES,
    EXPECTED_COUNT,
    INFLIGHT_BYTES,
    INFLIGHT_ENTRIES,
    INFLIGHT_TEXT,
    INTERRUPTED_REQUEST,
    INTERRUPTED_START,
    OVERFLOW_ENTRY,
    PATH_REF,
    UNTRACKED,
    UNTRACKED_PAIRS,
)
from .schema import PATHS, PER_WORKER, REQUESTS
from .slot import Slot, inflight_offset, inflight_start

_READS: Final = 100
"""Attempts to read the same state of the untracked requests twice in a row."""
_PLAUSIBLE: Final = 1e9
"""More untracked requests than this is a number that no writer of ours wrote."""


class SlotReader:
    """The read side. Remembers what it has parsed: each look costs only what is new.

    Args:
        slot: the memory.
        number: of the slot.
        index: of all slots, to enter in it what is parsed.
    """

    def __init__(self, slot: Slot, number: int = 0, index: Index | None = None) -> None:
        self.slot = slot
        self.series: dict[int, Series] = {}
        """By family number, what the directory says."""
        self.corrupt = False
        """Something else has written into the slot: no more is read of its directory."""
        self._number = number
        self._index = index
        self._failures = 0
        self._parsed = 0
        self._used = 0

    @property
    def has_news(self) -> bool:
        """Whether there is something in the directory that ``update`` has not seen."""
        return not self.corrupt and self.slot.header[DIRECTORY_BYTES] != self._parsed

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
            used = self._checked(new)
        except CorruptIndex:
            self._failures += 1
            self.corrupt = self._failures > 1
            raise
        self._failures = 0
        self._parsed = end
        self._used = used
        for family, labels, first, cells in new:
            series = self.series.get(family)
            if series is None:
                series = self.series[family] = Series(cells, [], array("I"))
            series.labels.append(labels)
            series.offsets.append(8 * first)
        if self._index is not None:
            self._index.add(self._number, new)
        return new

    def _checked(self, new: list[Entry]) -> int:
        """Return the number of cells that are used after these entries.

        Raises:
            CorruptDirectory: they speak of cells that are not theirs.
        """
        used = self._used
        for entry in new:
            known = self.series.get(entry.family)
            if entry.first != used or (known is not None and known.cells != entry.cells):
                raise CorruptIndex(f"cells {entry.first} to {entry.first + entry.cells}, not from {used}")
            used += entry.cells
        if used > len(self.slot.cells):
            raise CorruptIndex(f"{used} cells used, of {len(self.slot.cells)}")
        return used

    @property
    def known(self) -> dict[int, Series] | None:
        """By family number, all series of the slot; None if they are not all parsed."""
        return None if self.corrupt or self.has_news else self.series

    @property
    def cells(self) -> memoryview:
        """All cells that the entries parsed so far speak of, as bytes: no copy."""
        return self.slot.cells[: self._used].cast("B")

    def captured(self) -> dict[int, Series]:
        """Return, by family number, the series that are shown for single workers, as they are now."""
        wanted = (family.number for family in (REQUESTS, *PER_WORKER))
        return {number: self.series[number].copy() for number in wanted if number in self.series}

    def in_flight(self) -> list[InFlightRequest]:
        """The requests in the in-flight table, oldest first."""
        found = []
        for number, start in enumerate(self.slot.starts[:OVERFLOW_ENTRY].tolist()):
            if start > 0.0:
                request = InFlightRequest(start, *self._request(number))
                if self.slot.starts[number] == start:  # else it has ended meanwhile; the entry may be another one's
                    found.append(request)
        return sorted(found)

    def interrupted_requests(self) -> list[InFlightRequest]:
        """The requests that a worker which is gone was at, oldest first: in progress, or ended by its own end.

        Raises:
            CorruptDirectory: something else has written into the slot.
        """
        found = self.in_flight()
        number, odd = divmod(self.slot.header[INTERRUPTED_REQUEST] - inflight_start(0), INFLIGHT_BYTES // 8)
        if not odd and 0 <= number < INFLIGHT_ENTRIES:
            found.append(InFlightRequest(self.slot.header[INTERRUPTED_START], *self._request(int(number))))
        return sorted(set(found))

    def commit_pending(self) -> int:
        """Counts the requests that a worker which is gone had answered and was about to count; says how many.

        Raises:
            CorruptDirectory: something else has written into the slot.
        """
        self.update()
        words = self.slot.words
        finished = 0
        for number, start in enumerate(self.slot.starts.tolist()):
            if start >= 0.0:
                continue
            at, cell = inflight_start(number), float(-start)
            if not 0.0 <= cell - CELLS_AT // 8 < self._used or not cell.is_integer():
                continue
            if words[at + EXPECTED_COUNT] == words[int(cell)] + 1.0:
                words[int(cell)] += 1.0
                finished += 1
        return finished

    def _request(self, number: int) -> tuple[str, str]:
        """Method and path of an in-flight entry."""
        known = self.slot.words[inflight_start(number) + PATH_REF]
        if known:
            found = self._path(known)
            if found is None and self.update():
                found = self._path(known)
            return found or ("", "")
        method, path = INFLIGHT_TEXT.unpack_from(self.slot.memory, inflight_offset(number))
        return _text(method), _text(path)

    def _path(self, known: float) -> tuple[str, str] | None:
        """Return method and path that stand in an in-flight entry as this number; None if it is none of them."""
        paths = self.series.get(PATHS.number)
        if paths is None or not known.is_integer():
            return None
        offset = 8 * int(known) - CELLS_AT
        found = bisect_left(paths.offsets, offset)
        if found == len(paths.offsets) or paths.offsets[found] != offset:
            return None
        method, path = paths.labels[found]
        return method, path

    def untracked(self) -> Untracked:
        """Return the requests in progress that have no entry in the in-flight table.

        The worker may change them meanwhile: only a state that is read twice in a row is taken.
        """
        state = self._untracked_state()
        for _ in range(_READS):
            before, state = state, self._untracked_state()
            if state == before:
                break
        else:
            return Untracked(_plausible(state[1]), inf)
        changes, number, starts, marker, marked = state
        count = _plausible(number)
        if count and marker < 0.0 and marked == changes:  # one of them is answered; which one is not known
            return Untracked(count - 1, starts * (count - 1) / count)
        return Untracked(count, starts)

    def _untracked_state(self) -> tuple[float, ...]:
        """Number of changes, valid pair, and what the entry of requests without one says."""
        header, words, at = self.slot.header, self.slot.words, inflight_start(OVERFLOW_ENTRY)
        changes = header[UNTRACKED]
        pair = UNTRACKED_PAIRS + 2 * (changes % 2 == 1)
        return changes, header[pair], header[pair + 1], words[at], words[at + PATH_REF]


def _plausible(number: float) -> int:
    return int(number) if 0.0 <= number <= _PLAUSIBLE else 0


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("utf-8", "replace")
