"""A slot: the shared memory, and its write side."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from .directory import Entry, decode, encode, written
from .layout import (
    CELLS,
    CELLS_AT,
    DIRECTORY_BYTES,
    DIRECTORY_SIZE,
    HEADER_CELLS,
    INFLIGHT_AT,
    INFLIGHT_BYTES,
    INFLIGHT_START,
    INFLIGHT_TEXT,
    KNOWN,
    LAYOUT_VERSION,
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


def write_out(slot: Slot, at: int, method: bytes, path: bytes) -> None:
    """Writes method and path of a request, which are not among the known ones, into the entry whose start is there."""
    INFLIGHT_TEXT.pack_into(slot.memory, 8 * at - INFLIGHT_START, method, path)
    slot.words[at + KNOWN] = 0.0


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
