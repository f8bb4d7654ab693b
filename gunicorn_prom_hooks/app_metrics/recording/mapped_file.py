"""One of prometheus_client's multiprocess files, mapped for writing, with a disk block behind each byte."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from ..reading.layouts import FIRST_BYTES, HEADER_BYTES
from ..reading.rewriting import replace
from .blocks import reserve

_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
"""Without O_NONBLOCK: with it, opening fails while another master holds a lease to check for writers."""
_MODE: Final = 0o666
_USED: Final = struct.Struct("=i")
_LENGTH: Final = struct.Struct("=i")
_NUMBERS: Final = struct.Struct("=dd")


class Damaged(ValueError):
    """The file does not have prometheus_client's format."""


class Cell:
    """The place of the number of one entry.

    Attributes:
        memory: takes ``memory[start:end] = 16 bytes``; a mapping raises ``ValueError`` once it is closed.
        start: of the number and its timestamp.
        end: the byte after them.
        total: the number as last read or written.
    """

    __slots__ = ("end", "memory", "start", "total")

    def __init__(self, memory: Any, start: int, total: float = 0.0) -> None:
        self.memory = memory
        self.start = start
        self.end = start + _NUMBERS.size
        self.total = total


class MappedFile:
    """The file at this path, made if it is not there. Its format is that of ``prometheus_client.mmap_dict``.

    Calls are to be serialized by the caller.

    Raises:
        Damaged: it holds something else.
        OSError: it cannot be opened, or the disk has no room for it.
    """

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, _FLAGS, _MODE)
        self._maps: list[mmap.mmap] = []
        """One, and a second one while the file is extended or renewed: a process forked then closes both."""
        self._cells: dict[bytes, Cell] = {}
        self._positions: dict[bytes, int] = {}
        """Positions of entries that were in the file before, and have no cell yet."""
        try:
            status = os.fstat(self._descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Damaged("no regular file")
            self._capacity = 0
            try:
                self._extend(max(status.st_size, FIRST_BYTES))
            except OSError:
                if status.st_size == 0:
                    os.unlink(path)  # else readers would find an empty file
                raise
            self._used = self._read_entries()
        except BaseException:
            self.close()
            raise

    def cells(self, keys: Iterable[bytes]) -> list[Cell]:
        """Return the cells of these keys. Those that are new are added, all of them or none.

        Raises:
            OSError: the disk has no room for them.
        """
        wanted = list(keys)
        new = [key for key in dict.fromkeys(wanted) if key not in self._cells and key not in self._positions]
        needed = self._used + sum(map(_entry_bytes, new))
        capacity = self._capacity
        while capacity < needed:
            capacity *= 2
        if capacity > self._capacity:
            self._extend(capacity)
        if new:
            self._append(new)
        return [self._cell(key) for key in wanted]

    def renew(self, path: str) -> None:
        """Write the file again if this path has another file or none, and continue in the new file.

        Raises:
            OSError: it cannot be written; the cells stay in the removed file.
        """
        opened = os.fstat(self._descriptor)
        with contextlib.suppress(FileNotFoundError):
            at_path = os.lstat(path)
            if (at_path.st_dev, at_path.st_ino) == (opened.st_dev, opened.st_ino):
                return
        replace(Path(path), self._memory[:])
        lost, self._descriptor = self._descriptor, os.open(path, _FLAGS & ~os.O_CREAT)
        try:
            reserve(self._descriptor, 0, self._capacity)  # it may have been replaced again
            self._map(self._capacity)
        except OSError:
            lost, self._descriptor = self._descriptor, lost
            raise
        finally:
            os.close(lost)

    def close(self) -> None:
        """Unmap the file: a write to one of its cells raises ``ValueError`` from here on."""
        for mapping in self._maps:
            with contextlib.suppress(Exception):
                mapping.close()
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1

    @property
    def _memory(self) -> mmap.mmap:
        return self._maps[-1]

    def _extend(self, capacity: int) -> None:
        try:
            reserve(self._descriptor, self._capacity, capacity)
        except OSError:
            if self._capacity:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, self._capacity)
            raise
        self._map(capacity)

    def _map(self, capacity: int) -> None:
        """Move all cells into a new mapping."""
        self._maps.append(mmap.mmap(self._descriptor, capacity))
        self._capacity = capacity
        for cell in self._cells.values():
            cell.memory = self._memory
        while len(self._maps) > 1:
            self._maps[0].close()
            del self._maps[0]

    def _read_entries(self) -> int:
        """Read the entries, and return the number of used bytes."""
        memory = self._memory
        (used,) = _USED.unpack_from(memory)
        if used == 0:
            memory[: _USED.size] = _USED.pack(HEADER_BYTES)
            return HEADER_BYTES
        if not HEADER_BYTES <= used <= self._capacity:
            raise Damaged(f"{used} bytes used, of {self._capacity}")
        at = HEADER_BYTES
        while at < used:
            (length,) = _LENGTH.unpack_from(memory, at) if at + _LENGTH.size <= used else (-1,)
            numbers = at + _LENGTH.size + length + _padding(length)
            if length < 0 or numbers + _NUMBERS.size > used:
                raise Damaged(f"no entry at {at}")
            self._positions[memory[at + _LENGTH.size : at + _LENGTH.size + length]] = numbers
            at = numbers + _NUMBERS.size
        return int(used)

    def _append(self, keys: Iterable[bytes]) -> None:
        """Write entries for these keys, then the new number of used bytes: readers take no lock."""
        entries = []
        at = self._used
        for key in keys:
            padded = key + b" " * _padding(len(key))
            entries.append(_LENGTH.pack(len(key)) + padded + bytes(_NUMBERS.size))
            at += len(entries[-1])
            self._positions[key] = at - _NUMBERS.size
        memory = self._memory
        memory[self._used : at] = b"".join(entries)
        memory[: _USED.size] = _USED.pack(at)
        self._used = at

    def _cell(self, key: bytes) -> Cell:
        cell = self._cells.get(key)
        if cell is None:
            start = self._positions.pop(key)
            memory = self._memory
            cell = self._cells[key] = Cell(memory, start, _NUMBERS.unpack_from(memory, start)[0])
        return cell


def _padding(length: int) -> int:
    return 8 - (length + _LENGTH.size) % 8


def _entry_bytes(key: bytes) -> int:
    return _LENGTH.size + len(key) + _padding(len(key)) + _NUMBERS.size
