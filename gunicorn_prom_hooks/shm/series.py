"""Which cells belong to which series, kept small: there may be hundreds of thousands of them in all slots together."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import islice

from ..model.counts import Labels
from .index import Entry


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
