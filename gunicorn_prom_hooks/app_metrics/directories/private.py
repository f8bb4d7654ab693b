"""A private directory of the application's metrics, which is removed with the server."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import Final

from ..reading.rewriting import User
from ..shared_path import SharedPath
from .directory import ForeignDirectory, give_to
from .leftovers import is_written
from .locks import MasterLock, living_masters

PREFIX: Final = "gunicorn-prom-hooks-"
"""The beginning of the names of private directories."""
ABANDONED_SECONDS: Final = 86400.0
"""Age of a directory without a lock that is removed."""
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class PrivateDirectory:
    """A new directory that only the user of the workers can enter, with a name that cannot be guessed.

    Private directories of masters that were killed are removed.

    Args:
        uid: of the workers.
        gid: of the workers.

    Raises:
        OSError: none can be made.
    """

    suffix: Final = ""

    def __init__(self, uid: int, gid: int) -> None:
        self.user = User(uid, gid)
        self.removed = 0
        self.unsure: frozenset[str] = frozenset()
        _sweep({uid, os.geteuid()})
        path, self._lock = _make_private(self.user)
        try:
            self._parent_uid = os.stat(Path(path).parent).st_uid
            self.place = SharedPath(path)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            self._lock.abandon()
            raise

    @property
    def path(self) -> str:
        """The path of the directory."""
        return self.place.path

    def ensure(self) -> str:
        """Return the path. Make the directory again if it is gone. In any process.

        Raises:
            ForeignDirectory: something else is there, such as another user's directory, or a link.
            OSError: it cannot be made.
        """
        path = self.place.refresh()
        if self._make(path):
            self.place.changed(path)
        return path

    def restore(self) -> bool:
        """Make directory and lock again if they are missing. In the master. Return whether anything was missing.

        If something else has its path, a new directory is made.

        Raises:
            OSError: it cannot be.
        """
        path = self.place.refresh()
        try:
            made = self._make(path)
        except ForeignDirectory:
            lock = self._lock
            path, self._lock = _make_private(self.user)
            lock.abandon()
            self.place.changed(path)
            return True
        if self._lock.is_there:
            return made
        self._lock.take_again()
        return True

    def close(self) -> None:
        """Remove the directory with its content, and those of masters that were killed since."""
        if self._lock.is_held:
            path = self.place.refresh()
            with contextlib.suppress(OSError):
                if _is_private(path, self.user):
                    shutil.rmtree(path, ignore_errors=True)
            self._lock.close()
            _sweep({self.user.uid, os.geteuid()})

    def _make(self, path: str) -> bool:
        """Make the directory if its path is free; return whether it was."""
        try:
            if _is_private(path, self.user):
                return False
        except FileNotFoundError:
            parent = Path(path).parent
            parent.mkdir(parents=True, exist_ok=True)
            if parent.stat().st_uid not in {self._parent_uid, os.geteuid(), 0}:
                raise ForeignDirectory(f"{parent} belongs to another user now") from None
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)  # fails if anything is there, a link too
                give_to(path, self.user)
                return True
            if _is_private(path, self.user):
                return False
        raise ForeignDirectory(f"{path} is not the directory that it was")


def _make_private(user: User) -> tuple[str, MasterLock]:
    # Under another name until it is locked: a directory without a lock would be removed as an abandoned one.
    hidden = tempfile.mkdtemp(prefix=f".{PREFIX}")
    try:
        lock = MasterLock(hidden)
        give_to(hidden, user)
        path = str(Path(hidden).with_name(Path(hidden).name.removeprefix(".")))
        os.rename(hidden, path)
        lock.moved(path)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    return path, lock


def _is_private(path: str, user: User) -> bool:
    """Return whether this is a directory of the user that no other user may write to; a link is none.

    Raises:
        OSError: it cannot be read.
    """
    status = os.lstat(path)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == user.uid and not status.st_mode & _OTHERS_MAY_WRITE


def _sweep(uids: set[int]) -> None:
    """Remove private directories of these users whose master was killed."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(tempfile.gettempdir()):
            with contextlib.suppress(OSError):
                is_named_so = entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False)
                if is_named_so and entry.stat(follow_symlinks=False).st_uid in uids:
                    alive = living_masters(entry.path, keep=True)
                    if not alive or (alive == {0} and _is_abandoned(entry.path)):
                        shutil.rmtree(entry.path, ignore_errors=True)


def _is_abandoned(path: str) -> bool:
    """Return whether a directory without a lock is a day old, and no process writes there any more.

    A process that outlives its server makes the directory again.

    Raises:
        OSError: it cannot be read.
    """
    files = [Path(path, name) for name in os.listdir(path)]
    latest = max(os.lstat(file).st_mtime for file in (Path(path), *files))
    return time.time() - latest > ABANDONED_SECONDS and all(is_written(file) is False for file in files)
