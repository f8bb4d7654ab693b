"""The directory of a slot, which maps label values to cells, and the index of all directories."""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Final, NamedTuple

from ..model.counts import Labels
from .layout import ENTRY, LABEL, MAX_LABEL_BYTES

SHARED_LABELS: Final = 65536
"""Number of different series whose label values are kept once, and not once per slot."""


class Entry(NamedTuple):
    """A directory entry: a series whose ``cells`` cells begin at ``first`` among the slot's cells.

    ``since`` is the unix time in seconds at which it was added; 0.0: as old as the slot.
    """

    family: int
    labels: Labels
    first: int
    cells: int
    since: float = 0.0


class CorruptIndex(Exception):
    """The directory is not what ``SlotWriter`` writes: something else has written into the slot."""


def clean_label(value: str) -> str:
    """Return a value as the directory can hold it: valid UTF-8, at most ``MAX_LABEL_BYTES``, cut at a character."""
    return value.encode("utf-8", "replace")[:MAX_LABEL_BYTES].decode("utf-8", "ignore")


def encode(entry: Entry) -> bytes:
    """Return an entry as bytes. Its label values must be clean."""
    body = bytearray()
    for label in entry.labels:
        text = label.encode()
        body += LABEL.pack(len(text)) + text
    head = ENTRY.size + len(body), entry.cells, entry.first
    tail = entry.family, len(entry.labels), entry.since
    crc = zlib.crc32(ENTRY.pack(*head, 0, *tail) + body)
    return ENTRY.pack(*head, crc, *tail) + body


def decode(directory: memoryview, start: int, end: int) -> Iterator[Entry]:
    """Yield the entries between two offsets. ``end`` is the number of bytes that are written.

    Raises:
        CorruptIndex: an entry does not fit, or its checksum is wrong.
    """
    at = start
    directory = directory[:end]
    while at < end:
        try:
            length, cells, first, crc, family, labels, since = ENTRY.unpack_from(directory, at)
            body = bytes(directory[at + ENTRY.size : at + length])
            head = zlib.crc32(ENTRY.pack(length, cells, first, 0, family, labels, since))
            if len(body) != length - ENTRY.size or zlib.crc32(body, head) != crc:
                raise CorruptIndex(f"bad entry at {at}")
            entry = Entry(family, _labels(body, labels), first, cells, since)
        except (struct.error, UnicodeDecodeError) as error:
            raise CorruptIndex(f"bad entry at {at}: {error}") from error
        yield entry
        at += length


def checked_size(directory: memoryview, published: float, parsed: int = 0) -> int:
    """Return the number of bytes that are written, checked.

    Args:
        directory: of the slot.
        published: the number in the header.
        parsed: number of bytes that have been parsed.

    Raises:
        CorruptIndex: the number is not whole, beyond the end, or less than what has been parsed.
    """
    if not parsed <= published <= len(directory) or published != int(published):
        raise CorruptIndex(f"{published} bytes written, of {len(directory)}, {parsed} before")
    return int(published)


@lru_cache(SHARED_LABELS)
def _labels(body: bytes, count: int) -> Labels:
    values = []
    at = 0
    for _ in range(count):
        (length,) = LABEL.unpack_from(body, at)
        at += LABEL.size
        values.append(body[at : at + length].decode())
        at += length
    return tuple(values)


class Series:
    """The series of one family in one slot, in the order of their entries.

    Attributes:
        cells: number of cells of each series.
        labels: label values of each series.
        offsets: of the first cell of each series, in bytes from the slot's first cell; ascending.
        since: as of ``Entry``, of each series of a family in ``PER_WORKER``; else empty.
    """

    __slots__ = ("cells", "labels", "offsets", "since")

    def __init__(self, cells: int, labels: list[Labels], offsets: array[int], since: array[float]) -> None:
        self.cells = cells
        self.labels = labels
        self.offsets = offsets
        self.since = since

    def read(self, slot: memoryview) -> array[float]:
        """Return the cells of all series, one after the other. ``slot`` is all cells of the slot, as bytes."""
        size = 8 * self.cells
        return array("d", b"".join([slot[at : at + size] for at in self.offsets]))

    def copy(self) -> Series:
        """Return a copy that does not change when the slot gets more series."""
        return Series(self.cells, self.labels[:], self.offsets[:], self.since[:])


class SeriesLocation:
    """The cells of one series in all slots: numbers of slots, and offsets as in ``Series``.

    Memory matters: there may be hundreds of thousands of series in all slots together.

    Args:
        cells: number of cells of the series.
        since: as of ``Entry``, of the oldest one.
    """

    __slots__ = ("cells", "offsets", "since", "slots")

    def __init__(self, cells: int, since: float) -> None:
        self.cells = cells
        self.since = since
        self.slots = array("I")
        self.offsets = array("I")

    def read(self, slots: Sequence[memoryview], length: int) -> array[float]:
        """Return the cells of the series in each slot, one after the other.

        Args:
            slots: all cells of each slot as bytes.
            length: number of slots to read, see ``SeriesIndex.locations``.
        """
        size = 8 * self.cells
        where = islice(zip(self.slots, self.offsets, strict=True), length)
        return array("d", b"".join([slots[slot][at : at + size] for slot, at in where]))


class SeriesIndex:
    """The location of each series over all slots. It only grows, with the directories of the slots.

    Args:
        left_out: numbers of families that are not added up.
    """

    def __init__(self, left_out: frozenset[int]) -> None:
        self._left_out = left_out
        self._locations: dict[tuple[int, Labels], SeriesLocation] = {}

    def add(self, slot: int, entries: Iterable[Entry]) -> None:
        """Add new entries of a slot."""
        for family, labels, first, cells, since in entries:
            if family not in self._left_out:
                location = self._locations.get((family, labels))
                if location is None:
                    location = self._locations[family, labels] = SeriesLocation(cells, since)
                location.since = min(location.since, since)
                location.slots.append(slot)
                location.offsets.append(8 * first)

    def locations(self) -> list[tuple[int, Labels, SeriesLocation, int]]:
        """Return family, label values and location of each series, and the number of slots in the location now."""
        return [(*key, location, len(location.slots)) for key, location in self._locations.items()]
