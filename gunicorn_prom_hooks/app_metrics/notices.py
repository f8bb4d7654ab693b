"""What processes cannot log themselves: notes in shared memory, which the master logs.

A metric is made and changed with locks of prometheus_client held, and a handler of the log may count lines with the
same metric. So nothing is logged there. A note takes no lock and calls nothing of the user's.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import traceback
from typing import Final, NamedTuple

_ROWS: Final = 64
_ROW_BYTES: Final = 4096
_HEAD: Final = struct.Struct("=IIii")
"""Number of failures, pid, length of the text about the last one, and length of the name of a directory."""
_TEXT: Final = _HEAD.size
_TEXT_BYTES: Final = 3000
_NAME: Final = _TEXT + _TEXT_BYTES


class Notes(NamedTuple):
    """What was noted since the last call.

    Attributes:
        pid: of the process of the text.
        text: a traceback; empty if there is none, or it is kept for later.
        named: directories that the application has named itself.
    """

    pid: int
    text: str
    named: frozenset[str]


class Notices:
    """The notes of all processes. Created in the master, before any fork.

    A process has a row by its pid. Two that share one may mix up their texts, no more.

    Raises:
        OSError: there is no memory.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _ROWS * _ROW_BYTES)
        self._changed = mmap.mmap(-1, 2)
        """Whether there are texts or names that were not taken, and failures that were not counted."""
        self._counted = [0] * _ROWS

    def failed(self) -> None:
        """Note the exception being handled. In any process; never raises."""
        with contextlib.suppress(Exception):
            row = self._row()
            count, _, length, named = _HEAD.unpack_from(self._memory, row)
            # Without what it was raised in: that may be the application's, with a text that calls its code.
            text = b"" if length else traceback.format_exc(chain=False).encode(errors="replace")[-_TEXT_BYTES:]
            self._memory[row + _TEXT : row + _TEXT + len(text)] = text
            _HEAD.pack_into(self._memory, row, (count + 1) % (1 << 32), os.getpid(), length or len(text), named)
            self._changed[:] = b"\1\1"

    def names(self, path: str) -> None:
        """Note that the application has named this directory. In any process; never raises."""
        with contextlib.suppress(Exception):
            row, data = self._row(), os.fsencode(path)[: _ROW_BYTES - _NAME]
            self._memory[row + _NAME : row + _NAME + len(data)] = data
            count, _, length, _ = _HEAD.unpack_from(self._memory, row)
            _HEAD.pack_into(self._memory, row, count, os.getpid(), length, len(data))
            self._changed[0] = 1

    @property
    def is_empty(self) -> bool:
        """Whether nothing was noted since the last call of ``take``. Needs no system call."""
        return not self._changed[0]

    def count(self) -> int:
        """Return the number of failures since the last call. In the master, in one thread at a time."""
        if not self._changed[1]:
            return 0
        self._changed[1] = 0
        failures = 0
        for number in range(_ROWS):
            (count, *_) = _HEAD.unpack_from(self._memory, number * _ROW_BYTES)
            failures += (count - self._counted[number]) % (1 << 32)
            self._counted[number] = count
        return failures

    def take(self) -> Notes:
        """Return what was noted since the last call. In the master, in one thread at a time."""
        self._changed[0] = 0
        pid, text = 0, b""
        named = set()
        for number in range(_ROWS):
            row = number * _ROW_BYTES
            count, noted_by, length, name = _HEAD.unpack_from(self._memory, row)
            if length and not text:
                pid, text = noted_by, self._memory[row + _TEXT : row + _TEXT + length]
            if name:
                named.add(os.fsdecode(self._memory[row + _NAME : row + _NAME + name]))
            if length or name:
                _HEAD.pack_into(self._memory, row, count, noted_by, 0, 0)
        return Notes(pid, text.decode(errors="replace"), frozenset(named))

    def _row(self) -> int:
        return os.getpid() % _ROWS * _ROW_BYTES
