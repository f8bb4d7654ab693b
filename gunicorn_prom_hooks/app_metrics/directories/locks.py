"""The locks of masters in a directory: each master locks one file there.

These are POSIX locks: workers do not inherit them, and they end with the process in any case.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_LOCK: Final = re.compile(r"gunicorn-master-(\d+)\.lock", re.ASCII)
_PROCESSES: Final = re.compile(r"gunicorn-processes-(\d+)\.lock", re.ASCII)
_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
WAIT_SECONDS: Final = 2.0
"""Time that one master waits while another one enters the directory."""


class MasterLock:
    """The lock that shows other masters that this process uses the directory.

    The directory itself is locked as well, so that systemd-tmpfiles does not clean it.

    Raises:
        OSError: the directory cannot be written to.
    """

    def __init__(self, directory: str) -> None:
        self.pid = os.getpid()
        self._file = Path(directory) / f"gunicorn-master-{self.pid}.lock"
        self._directory = -1
        self._descriptor = self._take()

    def _take(self) -> int:
        descriptor = os.open(self._file, _FLAGS | os.O_CREAT, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        with contextlib.suppress(OSError):
            self._directory = os.open(self._file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._directory, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return descriptor

    def take_again(self) -> None:
        """Make the file again after it was removed.

        Raises:
            OSError: the directory cannot be written to.
        """
        self.close()
        self._descriptor = self._take()

    def moved(self, directory: str) -> None:
        """Follow the directory to its new name."""
        self._file = Path(directory) / self._file.name

    @property
    def is_there(self) -> bool:
        """Whether the file is still the one that is locked."""
        try:
            at_path, locked = os.lstat(self._file), os.fstat(self._descriptor)
        except OSError:
            return False
        return (at_path.st_dev, at_path.st_ino) == (locked.st_dev, locked.st_ino)

    def abandon(self) -> None:
        """Release the lock without touching the files now in the directory: they belong to another server."""
        # First: a number that is closed may soon be another file's.
        descriptors, self._descriptor, self._directory = (self._descriptor, self._directory), -1, -1
        for descriptor in descriptors:
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)

    @property
    def is_held(self) -> bool:
        """Whether this process took the lock, is not a child of that process, and has not released it."""
        return os.getpid() == self.pid and self._descriptor >= 0

    def close(self) -> None:
        """Leave the directory."""
        with contextlib.suppress(OSError):
            self._file.unlink()
        self.abandon()


@contextlib.contextmanager
def entering(directory: str) -> Iterator[None]:
    """Let one master at a time check for other masters and enter the directory.

    Raises:
        OSError: the directory cannot be written to, or another master holds the lock for ``WAIT_SECONDS``.
    """
    descriptor = os.open(Path(directory) / "gunicorn-masters.lock", _FLAGS | os.O_CREAT, 0o600)
    try:
        wait_for_lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def wait_for_lock(descriptor: int, length: int = 0, start: int = 0) -> None:
    """Lock these bytes of the file; the whole file if ``length`` is 0.

    Raises:
        OSError: another process has held them for ``WAIT_SECONDS``.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
            return
        except (BlockingIOError, PermissionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def living_masters(directory: str, *, keep: bool = False) -> set[int]:
    """Return the pids of the masters in a directory. Remove the lock files of exited ones.

    Not for a master that is in the directory: opening and closing its own lock file would release its lock.

    Args:
        directory: to check.
        keep: return pid 0 for a directory without any lock file, whose master may be just entering.

    Raises:
        OSError: the directory cannot be read.
    """
    alive: set[int] = set()
    found = [match for name in os.listdir(directory) if (match := _LOCK.fullmatch(name))]
    for match in found:
        pid = int(match[1])
        file = Path(directory) / match[0]
        try:
            descriptor = os.open(file, _FLAGS)
        except FileNotFoundError:
            continue
        except OSError:  # another user's
            alive.add(pid)
            continue
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.unlink(missing_ok=True)  # its master may be exiting, and have removed it
        except OSError:
            alive.add(pid)
        finally:
            os.close(descriptor)
    return alive if found or not keep else {0}


def processes_lock(suffix: str) -> str:
    """Return the name of the file in which processes lock their numbers, by the suffix of the master."""
    return f"gunicorn-processes{suffix}.lock"


def remove_processes_locks(directory: str, alive: set[int]) -> None:
    """Remove the empty files in which the processes of exited masters have locked their numbers.

    Raises:
        OSError: the directory cannot be read.
    """
    for name in os.listdir(directory):
        match = _PROCESSES.fullmatch(name)
        if match and int(match[1]) not in alive:
            with contextlib.suppress(OSError):
                if os.lstat(Path(directory, name)).st_size == 0:
                    os.unlink(Path(directory, name))
