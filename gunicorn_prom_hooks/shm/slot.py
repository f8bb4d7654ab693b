"""A slot: the shared memory, and its write side."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Mapping
from functools import cache
from itertools import repeat
from operator import floordiv
from typing import TYPE_CHECKING, Final, NamedTuple

from ..model.counts import Labels
from .index import Entry, Series, decode, encode, written
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
    LAYOUT_VERSION,
    OVERFLOW_ENTRY,
    PATH_REF,
    VERSION,
    slot_bytes,
)

if TYPE_CHECKING:
    Doubles = memoryview[float]


MAPPING_BYTES: Final = 64 * 1024 * 1024
"""No mapping with more than one slot is larger. Only what is touched becomes memory."""


class SlotFull(Exception):
    """There is no room left for another series in this slot."""


class Slot:
    """The mapped memory. Made by the master; a worker inherits it through the fork.

    Args:
        cells: how many there are.
        directory: its size in bytes.
        mapping: shared memory, zeros; None: a new one.
        start: where in it the slot begins, in bytes; a multiple of the size of a page.
    """

    def __init__(self, cells: int, directory: int, mapping: mmap.mmap | None = None, start: int = 0) -> None:
        size = slot_bytes(cells, directory)
        self._mapping = mmap.mmap(-1, size) if mapping is None else mapping
        self._start = start
        view = self.memory = memoryview(self._mapping)[start : start + size]
        self.header: Doubles = view[: 8 * HEADER_CELLS].cast("d")
        self.cells: Doubles = view[CELLS_AT : CELLS_AT + 8 * cells].cast("d")
        self.directory = view[CELLS_AT + 8 * cells :]
        self.words: Doubles = view[: len(view) // 8 * 8].cast("d")
        """All of the slot as doubles: an in-flight entry's start is ``words[inflight_start(n)]``."""
        self.starts: Doubles = self.words[inflight_start(0) : inflight_start(OVERFLOW_ENTRY) + 1 : INFLIGHT_BYTES // 8]
        """The starts of all in-flight entries, that of requests without one last."""
        self.header[CELLS] = cells
        self.header[DIRECTORY_SIZE] = directory
        self.header[VERSION] = LAYOUT_VERSION

    def let_go(self) -> None:
        """Take the pages out of this process's resident memory until it looks at them again; they keep what they hold.

        Without it the master's resident memory is that of all slots, which it only looks at.
        """
        if _lets_go():
            self._mapping.madvise(mmap.MADV_DONTNEED, self._start, len(self.memory))


class SlotMaker:
    """Makes slots, more and more of them in one mapping: each fork copies the list of mappings."""

    def __init__(self) -> None:
        self._ready: list[Slot] = []
        self._sizes = 0, 0
        self._made = 0

    def make(self, cells: int, directory: int) -> Slot:
        """Return another slot.

        Raises:
            OSError: there is no memory for it.
        """
        if not self._ready or (cells, directory) != self._sizes:
            size = -slot_bytes(cells, directory) // mmap.PAGESIZE * -mmap.PAGESIZE
            count = max(1, min(self._made, MAPPING_BYTES // size))
            mapping = mmap.mmap(-1, count * size)
            # All at once: between two forks the master would copy what it touches for each one of them.
            self._ready = [Slot(cells, directory, mapping, start) for start in range(0, count * size, size)]
            self._ready.reverse()
            self._sizes = cells, directory
        self._made += 1
        return self._ready.pop()


@cache
def _lets_go() -> bool:
    """Return whether shared memory keeps what it holds here, when pages are taken out: tried, not taken for granted."""
    if sys.platform != "linux":
        return False
    with mmap.mmap(-1, mmap.PAGESIZE) as probe:
        probe[0] = 1
        try:
            probe.madvise(mmap.MADV_DONTNEED)
        except OSError:
            return False
        return probe[0] == 1


def inflight_offset(number: int) -> int:
    """Offset in bytes of an in-flight entry from the start of the slot."""
    return INFLIGHT_AT + number * INFLIGHT_BYTES


def inflight_start(number: int) -> int:
    """Where among the slot's doubles the start of an in-flight entry's request is."""
    return (inflight_offset(number) + INFLIGHT_START) // 8


def write_out(slot: Slot, at: int, method: bytes, path: bytes) -> None:
    """Writes method and path of a request, which are not among the known ones, into the entry whose start is there."""
    INFLIGHT_TEXT.pack_into(slot.memory, 8 * at - INFLIGHT_START, method, path)
    slot.words[at + PATH_REF] = 0.0


class Content(NamedTuple):
    """What stands in a slot.

    Attributes:
        directory: its bytes.
        series: first cell by family number and label values.
        cells: number of cells that these have.
    """

    directory: bytes
    series: dict[int, dict[Labels, int]]
    cells: int


class SlotWriter:
    """The write side. One process at a time has one; within it, callers see to their own locking.

    Making it reads the directory that predecessors left, so that their cells are counted on.

    Args:
        slot: the memory.
        reserve: bytes of the directory, and number of cells, that only ``add(essential=True)`` may use.
        known: by family number, all series of the slot, if they have been parsed already.
        first: what a slot that is empty begins with.

    Raises:
        CorruptDirectory: something else has written into the slot.
    """

    def __init__(
        self, slot: Slot, reserve: int = 0, known: Mapping[int, Series] | None = None, first: Content | None = None
    ) -> None:
        self.slot = slot
        self._reserve = reserve
        self.written = written(slot.directory, slot.header[DIRECTORY_BYTES])
        """Bytes of the directory that are written."""
        self._next_cell = 0
        self.series: dict[int, dict[Labels, int]] = {}
        """First cell by family number and label values."""
        if first is not None and not self.written:
            self.series = {family: cells.copy() for family, cells in first.series.items()}
            self._next_cell, self.written = first.cells, len(first.directory)
            slot.directory[: self.written] = first.directory
            slot.header[DIRECTORY_BYTES] = self.written
        elif known is None:
            for entry in decode(slot.directory, 0, self.written):
                self.series.setdefault(entry.family, {})[entry.labels] = entry.first
                self._next_cell = entry.first + entry.cells
        else:
            for family, series in known.items():
                firsts = map(floordiv, series.offsets, repeat(8))
                self.series[family] = dict(zip(series.labels, firsts, strict=True))
                self._next_cell = max(self._next_cell, series.offsets[-1] // 8 + series.cells)

    def begins_with(self, content: Content) -> bool:
        """Return whether the directory begins with this content."""
        return self.slot.directory[: len(content.directory)] == content.directory

    def content(self) -> Content:
        """Return what has been written."""
        directory = bytes(self.slot.directory[: self.written])
        return Content(directory, {family: cells.copy() for family, cells in self.series.items()}, self._next_cell)

    def add(self, family: int, labels: Labels, count: int, *, essential: bool = False) -> int:
        """First of the ``count`` cells of these label values, made if there are none yet.

        Raises:
            SlotFull: they are new and there is no room.
        """
        series = self.series.get(family)
        if series is None:
            series = self.series[family] = {}
        found = series.get(labels)
        if found is not None:
            return found
        first = self._next_cell
        data = encode(Entry(family, labels, first, count))
        reserve = 0 if essential else self._reserve
        if self.written + len(data) + reserve > len(self.slot.directory):
            raise SlotFull("directory")
        if first + count + reserve > len(self.slot.cells):
            raise SlotFull("cells")
        self.slot.directory[self.written : self.written + len(data)] = data
        self.written += len(data)
        self.slot.header[DIRECTORY_BYTES] = self.written
        self._next_cell = first + count
        series[labels] = first
        return first
