"""A slot: the shared memory, and its write side."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Mapping
from functools import cache
from itertools import repeat
from operator import floordiv
from typing import TYPE_CHECKING, Final

from .directory import Entry, Labels, decode, encode, written
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
from .series import Series

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
        self._mapping: mmap.mmap | None = None
        self._next = 0
        self._made = 0

    def make(self, cells: int, directory: int) -> Slot:
        """Return another slot.

        Raises:
            OSError: there is no memory for it.
        """
        size = -slot_bytes(cells, directory) // mmap.PAGESIZE * -mmap.PAGESIZE
        if self._mapping is None or self._next + size > len(self._mapping):
            count = max(1, min(self._made, MAPPING_BYTES // size))
            self._mapping, self._next = mmap.mmap(-1, count * size), 0
        slot = Slot(cells, directory, self._mapping, self._next)
        self._next += size
        self._made += 1
        return slot


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
    slot.words[at + KNOWN] = 0.0


class SlotWriter:
    """The write side. One process at a time has one; within it, callers see to their own locking.

    Making it reads the directory that predecessors left, so that their cells are counted on.

    Args:
        slot: the memory.
        reserve: bytes of the directory, and number of cells, that only ``add(essential=True)`` may use.
        known: by family number, all series of the slot, if they have been parsed already.

    Raises:
        CorruptDirectory: something else has written into the slot.
    """

    def __init__(self, slot: Slot, reserve: int = 0, known: Mapping[int, Series] | None = None) -> None:
        self.slot = slot
        self._reserve = reserve
        self._written = written(slot.directory, slot.header[DIRECTORY_BYTES])
        self._next_cell = 0
        self.series: dict[int, dict[Labels, int]] = {}
        """First cell by family number and label values."""
        if known is None:
            for entry in decode(slot.directory, 0, self._written):
                self.series.setdefault(entry.family, {})[entry.labels] = entry.first
                self._next_cell = entry.first + entry.cells
        else:
            for family, series in known.items():
                firsts = map(floordiv, series.offsets, repeat(8))
                self.series[family] = dict(zip(series.labels, firsts, strict=True))
                self._next_cell = max(self._next_cell, series.offsets[-1] // 8 + series.cells)

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
        if self._written + len(data) + reserve > len(self.slot.directory):
            raise SlotFull("directory")
        if first + count + reserve > len(self.slot.cells):
            raise SlotFull("cells")
        self.slot.directory[self._written : self._written + len(data)] = data
        self._written += len(data)
        self.slot.header[DIRECTORY_BYTES] = self._written
        self._next_cell = first + count
        series[labels] = first
        return first
