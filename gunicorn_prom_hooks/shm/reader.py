"""The read side of a slot: what its worker counts, its requests in progress, and what it left behind at its exit."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from math import inf
from typing import Final

from ..model.counts import InFlightRequest, Untracked
from .index import CorruptIndex, Entry, Series, SeriesIndex, checked_size, decode
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

_PER_WORKER: Final = frozenset(family.number for family in PER_WORKER)
_READS: Final = 100
"""Attempts to read the same state of the untracked requests twice in succession."""
_PLAUSIBLE: Final = 1e9
"""A larger number of untracked requests is not a worker's: something else has written into the slot."""


class SlotReader:
    """The read side of a slot. It keeps what it has parsed: ``update`` parses only new entries.

    Args:
        slot: the memory.
        number: of the slot.
        index: of all slots; new entries are added to it.
    """

    def __init__(self, slot: Slot, number: int = 0, index: SeriesIndex | None = None) -> None:
        self.slot = slot
        self.series: dict[int, Series] = {}
        """By family number, the series whose entries have been parsed."""
        self.corrupt = False
        """Something else has written into the slot: its directory is not read any more."""
        self._number = number
        self._index = index
        self._failures = 0
        self._parsed = 0
        self._used = 0

    @property
    def has_updates(self) -> bool:
        """Whether the directory has entries that ``update`` has not parsed."""
        return not self.corrupt and self.slot.header[DIRECTORY_BYTES] != self._parsed

    def update(self) -> list[Entry]:
        """Parse the entries that are new since the last call, and return them.

        Raises:
            CorruptIndex: something else has written into the slot. The first failure may be transient, on a processor
                that reorders stores, so a second call tries again. After the second failure no call returns anything
                new, and what was parsed before stays.
        """
        if self.corrupt:
            return []
        try:
            end = checked_size(self.slot.directory, self.slot.header[DIRECTORY_BYTES], self._parsed)
            new = list(decode(self.slot.directory, self._parsed, end))
            used = self._checked(new)
        except CorruptIndex:
            self._failures += 1
            self.corrupt = self._failures > 1
            raise
        self._failures = 0
        self._parsed = end
        self._used = used
        for family, labels, first, cells, since in new:
            series = self.series.get(family)
            if series is None:
                series = self.series[family] = Series(cells, [], array("I"), array("d"))
            series.labels.append(labels)
            series.offsets.append(8 * first)
            if family in _PER_WORKER:
                series.since.append(since)
        if self._index is not None:
            self._index.add(self._number, new)
        return new

    def _checked(self, new: list[Entry]) -> int:
        """Return the number of cells that are in use after these entries.

        Raises:
            CorruptIndex: their cells are not consecutive, or of another number than their family's, or too many.
        """
        used = self._used
        widths = {number: series.cells for number, series in self.series.items()}
        for entry in new:
            if entry.first != used or entry.cells != widths.setdefault(entry.family, entry.cells):
                raise CorruptIndex(f"cells {entry.first} to {entry.first + entry.cells}, not from {used}")
            used += entry.cells
        if used > len(self.slot.cells):
            raise CorruptIndex(f"{used} cells used, of {len(self.slot.cells)}")
        return used

    @property
    def all_series(self) -> dict[int, Series] | None:
        """All series of the slot by family number; None if not all entries are parsed."""
        return None if self.corrupt or self.has_updates else self.series

    @property
    def cells(self) -> memoryview:
        """All cells whose entries have been parsed, as bytes; not a copy."""
        return self.slot.cells[: self._used].cast("B")

    def copy_series(self) -> dict[int, Series]:
        """Return a copy of the series that are also exposed per worker, by family number."""
        wanted = (family.number for family in (REQUESTS, *PER_WORKER))
        return {number: self.series[number].copy() for number in wanted if number in self.series}

    def in_flight(self) -> list[InFlightRequest]:
        """Return the requests in the in-flight table, oldest first."""
        found = []
        for number, start in enumerate(self.slot.starts[:OVERFLOW_ENTRY].tolist()):
            if start > 0.0:
                request = InFlightRequest(start, *self._request(number))
                if self.slot.starts[number] == start:  # else it has ended, and the entry may be reused
                    found.append(request)
        return sorted(found)

    def interrupted_requests(self) -> list[InFlightRequest]:
        """Return the requests that the exit of the worker interrupted, oldest first.

        These are the ones in progress, and the one that the signal ended which also ended the worker.

        Raises:
            CorruptIndex: something else has written into the slot.
        """
        found = self.in_flight()
        number, odd = divmod(self.slot.header[INTERRUPTED_REQUEST] - inflight_start(0), INFLIGHT_BYTES // 8)
        if not odd and 0 <= number < INFLIGHT_ENTRIES:
            found.append(InFlightRequest(self.slot.header[INTERRUPTED_START], *self._request(int(number))))
        return sorted(set(found))

    def commit_pending(self) -> int:
        """Count the requests that a worker had answered but not counted when it exited; return their number.

        Raises:
            CorruptIndex: something else has written into the slot.
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
        """Return method and path of an in-flight entry."""
        path_ref = self.slot.words[inflight_start(number) + PATH_REF]
        if path_ref:
            found = self._path(path_ref)
            if found is None and self.update():
                found = self._path(path_ref)
            return found or ("", "")
        method, path = INFLIGHT_TEXT.unpack_from(self.slot.memory, inflight_offset(number))
        return _text(method), _text(path)

    def _path(self, path_ref: float) -> tuple[str, str] | None:
        """Return the method and path that a reference in an in-flight entry stands for; None if it is not valid."""
        paths = self.series.get(PATHS.number)
        if paths is None or not path_ref.is_integer():
            return None
        offset = 8 * int(path_ref) - CELLS_AT
        found = bisect_left(paths.offsets, offset)
        if found == len(paths.offsets) or paths.offsets[found] != offset:
            return None
        method, path = paths.labels[found]
        return method, path

    def untracked(self) -> Untracked:
        """Return the requests in progress that have no entry in the in-flight table.

        The worker may change them meanwhile. Only a state that is read twice in succession is used.
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
        if count and marker < 0.0 and marked == changes:  # one of them is answered; it is not known which
            return Untracked(count - 1, starts * (count - 1) / count)
        return Untracked(count, starts)

    def _untracked_state(self) -> tuple[float, ...]:
        """Return the number of changes, the valid pair, and start and reference in the overflow entry."""
        header, words, at = self.slot.header, self.slot.words, inflight_start(OVERFLOW_ENTRY)
        changes = header[UNTRACKED]
        pair = UNTRACKED_PAIRS + 2 * (changes % 2 == 1)
        return changes, header[pair], header[pair + 1], words[at], words[at + PATH_REF]


def _plausible(number: float) -> int:
    return int(number) if 0.0 <= number <= _PLAUSIBLE else 0


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("utf-8", "replace")
