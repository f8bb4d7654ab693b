"""One of prometheus_client's multiprocess files, mapped for writing, with a disk block behind each byte."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
import struct
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from ..reading.layouts import FIRST_BYTES, HEADER_BYTES
from ..reading.rewriting import replace
from .blocks import reserve
from .cell import NUMBERS_BYTES, Cell

_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
"""Without O_NONBLOCK: with it, opening fails while another master holds a lease to check for writers."""
_MODE: Final = 0o666
_USED: Final = struct.Struct("=i")
_LENGTH: Final = struct.Struct("=i")
_VALUE: Final = struct.Struct("=d")
_WITHOUT_DESCRIPTOR: Final[Mapping[str, Any]] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
"""For ``mmap.mmap``, which else keeps a descriptor of its own. Its number may be another file's one day, too."""


class Damaged(ValueError):
    """The file does not have prometheus_client's format."""


class MappedFile:
    """The file at this path, made if it is not there. Its format is that of ``prometheus_client.mmap_dict``.

    Calls are to be serialized by the caller.

    Raises:
        Damaged: it holds something else.
        OSError: it cannot be opened, or the disk has no room for it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._inode = (-1, -1)
        self._descriptor = os.open(path, _FLAGS, _MODE)
        self._maps: list[mmap.mmap] = []
        """One, and a second one while the file is extended or renewed: a process forked then closes both."""
        self._cells: dict[bytes, Cell] = {}
        self._positions: dict[bytes, int] = {}
        """Positions of entries that were in the file before, and have no cell yet."""
        try:
            status = os.fstat(self._descriptor)
            self._inode = _inode(status)
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
        if len(self._maps) > 1:
            self._move()  # what an exception has interrupted
        with contextlib.suppress(FileNotFoundError):
            if _inode(os.lstat(path)) == self._inode:
                return
        replace(Path(path), self._memory[:])
        descriptor = os.open(path, _FLAGS & ~os.O_CREAT)
        try:
            inode = _inode(os.fstat(descriptor))
            reserve(descriptor, 0, self._capacity)  # it may have been replaced again
            mapping = self._map(descriptor, self._capacity)
        except BaseException:
            os.close(descriptor)
            raise
        self._close_descriptor()
        self._path, self._descriptor, self._inode = path, descriptor, inode
        self._maps.append(mapping)
        self._move()
        for cell in list(self._cells.values()):  # changed since the copy was made
            _store_value(cell)

    def close(self) -> None:
        """Unmap the file: a write to one of its cells raises ``ValueError`` from here on."""
        for mapping in self._maps:
            with contextlib.suppress(Exception):
                mapping.close()
        self._close_descriptor()

    @property
    def _memory(self) -> mmap.mmap:
        return self._maps[-1]

    def _extend(self, capacity: int) -> None:
        descriptor = self._own_descriptor()
        try:
            reserve(descriptor, self._capacity, capacity)
        except OSError:
            if self._capacity:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, self._capacity)
            raise
        self._maps.append(self._map(descriptor, capacity))
        self._capacity = capacity
        self._move()

    def _map(self, descriptor: int, capacity: int) -> mmap.mmap:
        return mmap.mmap(descriptor, capacity, **_WITHOUT_DESCRIPTOR)

    def _move(self) -> None:
        """Move all cells into the latest mapping."""
        for cell in self._cells.values():
            cell.memory = self._memory
        while len(self._maps) > 1:
            self._maps[0].close()
            del self._maps[0]

    def _own_descriptor(self) -> int:
        """Return the descriptor of the file. A daemon closes all that it has, and the number may be another file's.

        Raises:
            OSError: the file cannot be opened again.
        """
        if not self._is_open_here():
            self._descriptor = -1
            descriptor = os.open(self._path, _FLAGS & ~os.O_CREAT)
            if _inode(os.fstat(descriptor)) != self._inode:
                os.close(descriptor)
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            self._descriptor = descriptor
        return self._descriptor

    def _close_descriptor(self) -> None:
        if self._is_open_here():
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
        self._descriptor = -1

    def _is_open_here(self) -> bool:
        """Return whether the descriptor is still that of the file."""
        try:
            return self._descriptor >= 0 and _inode(os.fstat(self._descriptor)) == self._inode
        except OSError:
            return False

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
            if length < 0 or numbers + NUMBERS_BYTES > used:
                raise Damaged(f"no entry at {at}")
            self._positions[memory[at + _LENGTH.size : at + _LENGTH.size + length]] = numbers
            at = numbers + NUMBERS_BYTES
        return int(used)

    def _append(self, keys: Iterable[bytes]) -> None:
        """Write entries for these keys, then the new number of used bytes: readers take no lock."""
        entries = []
        positions = {}
        at = self._used
        for key in keys:
            padded = key + b" " * _padding(len(key))
            entries.append(_LENGTH.pack(len(key)) + padded + bytes(NUMBERS_BYTES))
            at += len(entries[-1])
            positions[key] = at - NUMBERS_BYTES
        memory = self._memory
        memory[self._used : at] = b"".join(entries)
        memory[: _USED.size] = _USED.pack(at)
        self._used = at
        self._positions.update(positions)

    def _cell(self, key: bytes) -> Cell:
        cell = self._cells.get(key)
        if cell is None:
            start = self._positions[key]
            memory = self._memory
            cell = self._cells[key] = Cell(memory, start, _VALUE.unpack_from(memory, start)[0])
            del self._positions[key]
        return cell


def _store_value(cell: Cell) -> None:
    """Store the number of a cell, and leave its timestamp."""
    start = cell.place.start
    while True:
        total = cell.total
        cell.memory[start : start + _VALUE.size] = _VALUE.pack(total)
        if cell.total is total:
            return


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _padding(length: int) -> int:
    return 8 - (length + _LENGTH.size) % 8


def _entry_bytes(key: bytes) -> int:
    return _LENGTH.size + len(key) + _padding(len(key)) + NUMBERS_BYTES
