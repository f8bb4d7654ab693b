"""The directory of a slot: which label values the cells belong to, written by one, read by another process."""

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
"""Of so many different series the label values are kept once, and not once per slot."""


class Entry(NamedTuple):
    """A series or a group of them: ``cells`` cells from ``first`` on, in the slot's cells."""

    family: int
    labels: Labels
    first: int
    cells: int


class CorruptIndex(Exception):
    """The directory holds what no writer of ours wrote: something else wrote into the slot."""


def clean_label(value: str) -> str:
    """The value as the directory can hold it: valid UTF-8, at most ``MAX_LABEL_BYTES``, cut at a character."""
    return value.encode("utf-8", "replace")[:MAX_LABEL_BYTES].decode("utf-8", "ignore")


def encode(entry: Entry) -> bytes:
    """The entry as bytes. Its label values must be clean."""
    body = bytearray()
    for label in entry.labels:
        text = label.encode()
        body += LABEL.pack(len(text)) + text
    head = ENTRY.size + len(body), entry.cells, entry.first
    crc = zlib.crc32(ENTRY.pack(*head, 0, entry.family, len(entry.labels)) + body)
    return ENTRY.pack(*head, crc, entry.family, len(entry.labels)) + body


def decode(directory: memoryview, start: int, end: int) -> Iterator[Entry]:
    """The entries between two offsets, ``end`` being what the header says is written.

    Raises:
        CorruptDirectory: an entry does not fit, or its checksum is wrong.
    """
    at = start
    directory = directory[:end]
    while at < end:
        try:
            length, cells, first, crc, family, labels = ENTRY.unpack_from(directory, at)
            body = bytes(directory[at + ENTRY.size : at + length])
            fits = len(body) == length - ENTRY.size and at + length <= end
            if not fits or zlib.crc32(body, zlib.crc32(ENTRY.pack(length, cells, first, 0, family, labels))) != crc:
                raise CorruptIndex(f"bad entry at {at}")
            entry = Entry(family, _labels(body, labels), first, cells)
        except (struct.error, UnicodeDecodeError) as error:
            raise CorruptIndex(f"bad entry at {at}: {error}") from error
        yield entry
        at += length


def written(directory: memoryview, published: float, parsed: int = 0) -> int:
    """The number of bytes that the header says are written, as a number that can be.

    Raises:
        CorruptDirectory: it cannot be: it is not whole, beyond the end, or less than what was there before.
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
    """The series of one family in one slot, in the order in which they were made.

    Attributes:
        cells: number of cells of each.
        labels: label values of each.
        offsets: where the cells of each begin, in bytes from the slot's first cell; ascending.
    """

    __slots__ = ("cells", "labels", "offsets")

    def __init__(self, cells: int, labels: list[Labels], offsets: array[int]) -> None:
        self.cells = cells
        self.labels = labels
        self.offsets = offsets

    def read(self, slot: memoryview) -> array[float]:
        """Return the cells of all series, one behind the other, out of all cells of the slot as bytes."""
        size = 8 * self.cells
        return array("d", b"".join([slot[at : at + size] for at in self.offsets]))

    def copy(self) -> Series:
        """Return a copy that does not change when the slot gets more series."""
        return Series(self.cells, self.labels[:], self.offsets[:])


class Place:
    """Where one series has its cells: numbers of slots, and offsets as in ``Series``."""

    __slots__ = ("cells", "offsets", "slots")

    def __init__(self, cells: int) -> None:
        self.cells = cells
        self.slots = array("I")
        self.offsets = array("I")

    def read(self, slots: Sequence[memoryview], length: int) -> array[float]:
        """Return the cells that the series has in each slot, one behind the other.

        Args:
            slots: all cells of each slot as bytes.
            length: how much of the place to read, see ``Index.captured``.
        """
        size = 8 * self.cells
        where = islice(zip(self.slots, self.offsets, strict=True), length)
        return array("d", b"".join([slots[slot][at : at + size] for slot, at in where]))


class Index:
    """Where each series has its cells, over all slots. It only grows, with the directories of the slots.

    Args:
        left_out: numbers of families that nobody adds up.
    """

    def __init__(self, left_out: frozenset[int]) -> None:
        self._left_out = left_out
        self._places: dict[tuple[int, Labels], Place] = {}

    def add(self, slot: int, entries: Iterable[Entry]) -> None:
        """Enter what is new in the directory of a slot."""
        for family, labels, first, cells in entries:
            if family not in self._left_out:
                place = self._places.get((family, labels))
                if place is None:
                    place = self._places[family, labels] = Place(cells)
                place.slots.append(slot)
                place.offsets.append(8 * first)

    def captured(self) -> list[tuple[int, Labels, Place, int]]:
        """Return family, label values and place of each series, and how much of the place there is now."""
        return [(*key, place, len(place.slots)) for key, place in self._places.items()]
