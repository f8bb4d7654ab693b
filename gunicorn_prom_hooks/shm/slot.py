"""The shared memory of a slot, and the write side of its directory."""

from __future__ import annotations

import contextlib
import mmap
import sys
from collections.abc import Callable, Mapping
from functools import cache
from itertools import repeat
from operator import floordiv
from time import time
from typing import TYPE_CHECKING, Final, NamedTuple

from ..model.counts import Labels
from .index import Entry, Series, checked_size, decode, encode
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
"""Maximum size of a mapping with more than one slot. Only pages that are written become memory."""


class SlotFull(Exception):
    """The slot has no room for another series."""


class Slot:
    """The mapped memory. The master makes it, and workers inherit it through the fork.

    Args:
        cells: number of cells.
        directory: size of the directory in bytes.
        mapping: shared memory, all zeros; None: a new mapping.
        start: offset of the slot in the mapping in bytes; a multiple of the page size.
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
        """The whole slot as doubles. The start of in-flight entry n is ``words[inflight_start(n)]``."""
        self.starts: Doubles = self.words[inflight_start(0) : inflight_start(OVERFLOW_ENTRY) + 1 : INFLIGHT_BYTES // 8]
        """The starts of all in-flight entries; the last one is the overflow entry's."""
        self.header[CELLS] = cells
        self.header[DIRECTORY_SIZE] = directory
        self.header[VERSION] = LAYOUT_VERSION

    def release_pages(self) -> None:
        """Take the pages out of this process's resident memory until the next access. They keep their contents.

        Otherwise all slots that the master has read are in its resident memory.
        """
        if _can_release_pages():
            with contextlib.suppress(OSError):
                self._mapping.madvise(mmap.MADV_DONTNEED, self._start, len(self.memory))


class SlotMaker:
    """Makes slots. A mapping holds more slots the more there are: each fork copies the list of mappings."""

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
            # All at once: each fork copies the memory that the master has touched since the fork before.
            self._ready = [Slot(cells, directory, mapping, start) for start in range(0, count * size, size)]
            self._ready.reverse()
            self._sizes = cells, directory
        self._made += 1
        return self._ready.pop()


@cache
def _can_release_pages() -> bool:
    """Return whether shared memory keeps its contents here when its pages are released. Found by trying it."""
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
    """Return the offset of an in-flight entry in bytes from the start of the slot."""
    return INFLIGHT_AT + number * INFLIGHT_BYTES


def inflight_start(number: int) -> int:
    """Return the index of the start of an in-flight entry among the slot's doubles."""
    return (inflight_offset(number) + INFLIGHT_START) // 8


def write_out(slot: Slot, at: int, method: bytes, path: bytes) -> None:
    """Write method and path of a request as text into the in-flight entry whose start is at this index."""
    INFLIGHT_TEXT.pack_into(slot.memory, 8 * at - INFLIGHT_START, method, path)
    slot.words[at + PATH_REF] = 0.0


class Content(NamedTuple):
    """The entries of a directory.

    Attributes:
        directory: their bytes.
        series: first cell by family number and label values.
        cells: number of cells in use.
    """

    directory: bytes
    series: dict[int, dict[Labels, int]]
    cells: int


class SlotWriter:
    """The write side of a slot. One process at a time has one. It is not thread-safe.

    It begins with the entries that predecessors have left, and counts on in their cells.

    Args:
        slot: the memory.
        reserve: bytes of the directory, and number of cells, that only ``add(essential=True)`` may use.
        known: all series of the slot by family number, if its entries have been parsed already.
        first: the entries that are written into an empty slot.
        now: returns the ``since`` of new entries.

    Raises:
        CorruptIndex: something else has written into the slot.
    """

    def __init__(
        self,
        slot: Slot,
        reserve: int = 0,
        known: Mapping[int, Series] | None = None,
        first: Content | None = None,
        now: Callable[[], float] = time,
    ) -> None:
        self.slot = slot
        self._now = now
        self._reserve = reserve
        self.written = checked_size(slot.directory, slot.header[DIRECTORY_BYTES])
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
        """Return whether the directory begins with these entries."""
        return self.slot.directory[: len(content.directory)] == content.directory

    def content(self) -> Content:
        """Return the entries that have been written."""
        directory = bytes(self.slot.directory[: self.written])
        return Content(directory, {family: cells.copy() for family, cells in self.series.items()}, self._next_cell)

    def add(self, family: int, labels: Labels, count: int, *, essential: bool = False) -> int:
        """Return the first of the ``count`` cells of a series, after adding the series if it is new.

        Raises:
            SlotFull: the series is new and there is no room.
        """
        series = self.series.get(family)
        if series is None:
            series = self.series[family] = {}
        found = series.get(labels)
        if found is not None:
            return found
        first = self._next_cell
        data = encode(Entry(family, labels, first, count, self._now()))
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
