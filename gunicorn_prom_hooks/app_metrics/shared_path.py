"""The path of the directory in shared memory, so that all processes of the server see a change."""

from __future__ import annotations

import mmap
import os
from typing import Final

_BYTES: Final = 8192
_PATH: Final = slice(8, _BYTES)


class SharedPath:
    """The path and a generation. Created in the master, before any fork.

    Attributes:
        path: the directory, as this process knows it.
        shared: the memory. Its first byte is the generation.

    Args:
        path: the directory at the start.

    Raises:
        OSError: the path is too long, or there is no memory.
    """

    def __init__(self, path: str) -> None:
        self.shared = mmap.mmap(-1, _BYTES)
        self._known = 0
        self.path = path
        self._write(path)

    def generation(self) -> int:
        """Return a number from 0 to 255 that changes when files have to be made again. Needs no system call."""
        return self.shared[0]

    def refresh(self) -> str:
        """Return the current path, whichever process has changed it."""
        if self.shared[0] != self._known:
            self._known = self.shared[0]
            self.path = os.fsdecode(self.shared[_PATH].rstrip(b"\0"))
        return self.path

    def changed(self, path: str) -> None:
        """Record that files of the directory were lost, and its current path.

        Raises:
            OSError: the path is too long.
        """
        self._write(path)
        self.path = path
        self._known = self.shared[0] = (self.shared[0] + 1) % 256

    def _write(self, path: str) -> None:
        data = os.fsencode(path)
        if len(data) > _BYTES - 8:
            raise OSError(f"the path has {len(data)} bytes")
        self.shared[_PATH] = data.ljust(_BYTES - 8, b"\0")
