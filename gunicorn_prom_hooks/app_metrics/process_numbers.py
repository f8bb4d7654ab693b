"""Numbers of processes that workers fork. A process has one while it runs, and its successor continues its files."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .directories.leftovers import is_written
from .directories.locks import processes_lock, wait_for_lock
from .reading.file_names import KINDS
from .shared_path import SharedPath

PER_GENERATION: Final = 4096
"""Maximum number of such processes at once. Further ones use their pid."""
_EXCLUSIVE: Final = 1 << 30
"""The byte to lock for a file that all processes share."""
_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


class Numbers:
    """Hand out numbers. A process holds a POSIX lock on the byte with its number; a fork does not inherit it.

    A process that has closed all its descriptors has lost its lock and still writes its files. So a number is free
    only if no process has its files open either.

    Args:
        place: path of the directory.
        suffix: sets the files of this server apart from those of another one in the same directory.
    """

    def __init__(self, place: SharedPath, suffix: str) -> None:
        self._place = place
        self._suffix = suffix
        self._name = processes_lock(suffix)
        self._descriptor = -1

    def make(self, uid: int, gid: int) -> bool:
        """Make the file with the locks if it is not there, for this user. In the master. Return whether it was not.

        Raises:
            OSError: it cannot be made, or something else is in its place.
        """
        if self.is_current():
            return False
        descriptor = os.open(self._path, _FLAGS | os.O_CREAT, 0o600)
        if (uid, gid) != (os.geteuid(), os.getegid()):
            os.fchown(descriptor, uid, gid)
        previous, self._descriptor = self._descriptor, descriptor
        if previous >= 0:
            with contextlib.suppress(OSError):
                os.close(previous)  # the master holds no lock on it
        return True

    def claim(self) -> int:
        """Return the lowest free number, and lock it for this process. In a forked process.

        Raises:
            OSError: no number is free, or the file with the locks cannot be used.
        """
        self._use()
        first = self._place.generation() * PER_GENERATION  # a number from before a loss may still have its owner
        for number in range(first, first + PER_GENERATION):
            if self._lock(number):
                if not self._is_written(number):
                    return number
                self._unlock(number)
        raise OSError("no number is free")

    def claim_again(self, number: int) -> None:
        """Lock the number of this process again, in a new file with locks.

        Raises:
            OSError: another process has locked it.
        """
        self._use()
        if not self._lock(number):
            raise OSError(f"number {number} is taken")

    @contextlib.contextmanager
    def hold_dead(self, number: int) -> Iterator[bool]:
        """Hold this number if no process has it; yield whether it is held. In the master.

        Raises:
            OSError: the file with the locks cannot be used.
        """
        if not self.is_current():
            raise OSError("the file with the locks is gone")
        held = self._lock(number)
        try:
            yield held and not self._is_written(number)
        finally:
            if held:
                self._unlock(number)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock for a file that all processes share.

        Raises:
            OSError: another process has held it for too long, or the file with the locks cannot be used.
        """
        self._use()
        wait_for_lock(self._descriptor, 1, _EXCLUSIVE)
        try:
            yield
        finally:
            self._unlock(_EXCLUSIVE)

    def _use(self) -> None:
        """Open the file with the locks. If it was removed, it is made again, and all processes are notified.

        Raises:
            OSError: it cannot be used.
        """
        if not self.is_current():
            # The previous descriptor stays open: closing it would release the lock that this process may have.
            try:
                self._descriptor = os.open(self._path, _FLAGS)
            except FileNotFoundError:
                self._descriptor = os.open(self._path, _FLAGS | os.O_CREAT, 0o600)
                self._place.changed(self._place.path)

    @property
    def _path(self) -> Path:
        return Path(self._place.path, self._name)

    def is_current(self) -> bool:
        """Return whether the file with the locks is still there. Two system calls."""
        if self._descriptor < 0:
            return False
        try:
            # Before each fork, which copies all memory that is touched: without pathlib.
            at_path, opened = os.lstat(f"{self._place.path}/{self._name}"), os.fstat(self._descriptor)
        except OSError:
            return False
        return (at_path.st_dev, at_path.st_ino) == (opened.st_dev, opened.st_ino)

    def _lock(self, number: int) -> bool:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _unlock(self, number: int) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, number)

    def _is_written(self, number: int) -> bool:
        for kind in KINDS:
            with contextlib.suppress(FileNotFoundError):
                if is_written(Path(self._place.path, f"{kind}_p{number}{self._suffix}.db")):
                    return True
        return False
