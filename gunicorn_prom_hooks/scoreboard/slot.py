"""A slot and its two sides: the worker that writes it, the master that reads it."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, NamedTuple, cast

from .directory import CorruptDirectory, Entry, decode, encode, written
from .layout import (
    CELLS,
    CELLS_AT,
    DIRECTORY_BYTES,
    DIRECTORY_SIZE,
    HEADER_CELLS,
    INFLIGHT_AT,
    INFLIGHT_BYTES,
    INFLIGHT_ENTRIES,
    INFLIGHT_ENTRY,
    INFLIGHT_START,
    LAYOUT_VERSION,
    UNTRACKED,
    VERSION,
    slot_bytes,
)

if TYPE_CHECKING:
    Doubles = memoryview[float]


class SlotFull(Exception):
    """There is no room left for another series in this slot."""


class Slot:
    """The mapped memory. Made by the master; a worker inherits it through the fork."""

    def __init__(self, cells: int, directory: int) -> None:
        self.memory = mmap.mmap(-1, slot_bytes(cells, directory))
        view = memoryview(self.memory)
        self.header: Doubles = view[: 8 * HEADER_CELLS].cast("d")
        self.cells: Doubles = view[CELLS_AT : CELLS_AT + 8 * cells].cast("d")
        self.directory = view[CELLS_AT + 8 * cells :]
        self.words: Doubles = view[: len(view) // 8 * 8].cast("d")
        """All of the slot as doubles: an in-flight entry's start is ``words[inflight_start(n)]``."""
        self.header[CELLS] = cells
        self.header[DIRECTORY_SIZE] = directory
        self.header[VERSION] = LAYOUT_VERSION


def inflight_offset(number: int) -> int:
    """Offset in bytes of an in-flight entry from the start of the slot."""
    return INFLIGHT_AT + number * INFLIGHT_BYTES


def inflight_start(number: int) -> int:
    """Where among the slot's doubles the start of an in-flight entry's request is."""
    return (inflight_offset(number) + INFLIGHT_START) // 8


class SlotWriter:
    """The write side. One process at a time has one; within it, callers see to their own locking.

    Making it reads the directory that predecessors left, so that their cells are counted on.

    Args:
        slot: the memory.
        reserve: bytes of the directory, and number of cells, that only ``add(essential=True)`` may use.

    Raises:
        CorruptDirectory: something else has written into the slot.
    """

    def __init__(self, slot: Slot, reserve: int = 0) -> None:
        self.slot = slot
        self._reserve = reserve
        self._written = written(slot.directory, slot.header[DIRECTORY_BYTES])
        self._next_cell = 0
        self.series: dict[tuple[int, tuple[str, ...]], int] = {}
        """First cell by family and label values."""
        for entry in decode(slot.directory, 0, self._written):
            self.series[entry.family, entry.labels] = entry.first
            self._next_cell = entry.first + entry.cells

    def add(self, family: int, labels: tuple[str, ...], count: int, *, essential: bool = False) -> int:
        """First of the ``count`` cells of these label values, made if there are none yet.

        Raises:
            SlotFull: they are new and there is no room.
        """
        found = self.series.get((family, labels))
        if found is not None:
            return found
        first = self._next_cell
        data = encode(Entry(family, labels, first, count))
        reserve = 0 if essential else self._reserve
        if self._written + len(data) + reserve > len(self.slot.directory):
            raise SlotFull("directory")
        if first + count + reserve > len(self.slot.cells):
            raise SlotFull("cells")
        self.slot.directory[self._written : self._written + len(data)] = data
        self._written += len(data)
        self.slot.header[DIRECTORY_BYTES] = self._written
        self._next_cell = first + count
        self.series[family, labels] = first
        return first


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
        if new:
            self._used = new[-1].first + new[-1].cells
        return new

    def values(self) -> list[float]:
        """A copy of all cells that the entries parsed so far speak of."""
        return cast("list[float]", self.slot.cells[: self._used].tolist())

    def in_flight(self) -> list[InFlight]:
        """The requests in the in-flight table, oldest first."""
        found = []
        for number in range(INFLIGHT_ENTRIES):
            if self.slot.words[inflight_start(number)]:
                method, path, start = INFLIGHT_ENTRY.unpack_from(self.slot.memory, inflight_offset(number))
                if start:
                    found.append(InFlight(start, _text(method), _text(path)))
        return sorted(found)

    def untracked(self) -> int:
        """Number of requests in progress that have no entry in the in-flight table."""
        return max(0, int(self.slot.header[UNTRACKED]))


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("utf-8", "replace")
