"""The place of a value's number: in a file of the process, or in its memory only."""

from __future__ import annotations

import struct
from typing import Any, Final

_NUMBERS: Final = struct.Struct("=dd")
_pack: Final = _NUMBERS.pack
NUMBERS_BYTES: Final = _NUMBERS.size
"""A value and its timestamp."""


class Cell:
    """The place of the number of one entry.

    Attributes:
        memory: takes ``memory[place] = 16 bytes``; raises ``ValueError`` once it is closed, as a mapping does.
        place: of the number and its timestamp.
        total: the number. It is changed first, and stored then.
        kept: the memory of a cell that is in no file; None: it is in one.
    """

    __slots__ = ("kept", "memory", "place", "total")

    def __init__(self, memory: Any, start: int, total: float = 0.0, kept: Kept | None = None) -> None:
        self.memory = memory
        self.place = slice(start, start + NUMBERS_BYTES)
        self.total = total
        self.kept = kept


class Kept:
    """The memory of a cell that is in no file.

    Attributes:
        start: the number at the beginning.
        timestamp: as last stored.

    Args:
        is_open: empty once the value is to look for a file again.
        start: the number.
    """

    __slots__ = ("_is_open", "start", "timestamp")

    def __init__(self, is_open: list[bool], start: float) -> None:
        self._is_open = is_open
        self.start = start
        self.timestamp = 0.0

    def __setitem__(self, place: slice, data: bytes) -> None:
        if not self._is_open:
            raise ValueError("look for a file")
        self.timestamp = _NUMBERS.unpack(data)[1]

    @property
    def is_open(self) -> bool:
        """Whether the cell is still to be used."""
        return bool(self._is_open)


def write(cell: Cell, timestamp: float) -> None:
    """Store the number of a cell, as it is when that is done. Without effect if the memory is closed."""
    while True:
        total = cell.total
        try:
            cell.memory[cell.place] = _pack(total, timestamp)
        except ValueError:
            return
        if cell.total is total:
            return


class _NotOpen:
    """The memory of a cell whose file is not open."""

    def __setitem__(self, where: slice, data: bytes) -> None:
        raise ValueError("no file yet")


NOT_OPEN: Final = Cell(_NotOpen(), 0)
