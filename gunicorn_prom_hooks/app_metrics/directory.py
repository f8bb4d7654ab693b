"""The directory of the application's metrics: a private one that is removed with the server, or the user's."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final, Protocol

from . import leftovers
from .leftovers import is_written
from .locks import MasterLock, entering, living_masters, remove_processes_locks
from .reading.rewriting import User
from .shared_path import SharedPath

PREFIX: Final = "gunicorn-prom-hooks-"
"""The beginning of the names of private directories."""
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class DirectoryInUse(OSError):
    """Another server keeps its metrics in this directory."""


class ForeignDirectory(OSError):
    """The path of the private directory is now something else, or other users may write to it."""


class Directory(Protocol):
    """The interface of both kinds of directories.

    Attributes:
        place: its path.
        user: its owner.
        removed: number of files of exited processes removed so far.
        unsure: files of processes that may have exited or not.
    """

    place: SharedPath
    user: User
    removed: int
    unsure: frozenset[str]

    @property
    def suffix(self) -> str:
        """The suffix of this server's files, which separates them from another server's."""

    def ensure(self) -> str:
        """Return the path. Make the directory again if it is gone. In any process.

        Raises:
            OSError: it cannot be made, or something else has its path.
        """

    def restore(self) -> bool:
        """Make directory and lock again if they are missing. In the master. Return whether anything was missing.

        Raises:
            OSError: it cannot be.
        """

    def close(self) -> None:
        """Remove the files of this server. A second call, or one in a child, has no effect."""


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
        self._parent_uid = os.stat(Path(path).parent).st_uid
        self.place = SharedPath(path)

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
                _give_to(path, self.user)
                return True
            if _is_private(path, self.user):
                return False
        raise ForeignDirectory(f"{path} is not the directory that it was")


class SharedDirectory:
    """A directory of the user's choice; made if it is missing.

    Two masters of one upgrade may use it together. Files of exited masters are removed.

    Args:
        path: the directory.
        parent: pid of the master that has started this one as its replacement; 0 if there is none.
        uid: of the workers.
        gid: of the workers.

    Raises:
        DirectoryInUse: an unrelated server uses it.
        OSError: it cannot be used.
    """

    def __init__(self, path: str, parent: int, uid: int, gid: int) -> None:
        self.user = User(uid, gid)
        self.removed = 0
        self._make(path)
        with entering(path):
            alive = living_masters(path)
            unrelated = alive - {parent}
            if unrelated:
                raise DirectoryInUse(f"another gunicorn (pid {min(unrelated)}) uses it")
            self._lock = MasterLock(path)
            try:
                self.place = SharedPath(path)
                self.unsure = self._remove_files(path, alive)
            except OSError:
                self._lock.close()
                raise

    @property
    def path(self) -> str:
        """The path of the directory."""
        return self.place.path

    @property
    def suffix(self) -> str:
        """The pid of the master."""
        return f"-{self._lock.pid}"

    def ensure(self) -> str:
        """Return the path. Make the directory again if it is gone. In any process.

        Raises:
            OSError: it cannot be made.
        """
        if self._make(self.place.path):
            self.place.changed(self.place.path)
        return self.place.path

    def restore(self) -> bool:
        """Make directory and lock again if they are missing. In the master. Return whether anything was missing.

        Raises:
            OSError: it cannot be.
        """
        made = self._make(self.place.path)
        if self._lock.is_there:
            return made
        self._lock.take_again()
        return True

    def close(self) -> None:
        """Remove the files of this server and of exited ones, and leave the directory.

        While another master of the upgrade is alive, or another program writes there, counters stay for readers of the
        whole directory.
        """
        if self._lock.is_held:
            self._lock.close()
            with contextlib.suppress(OSError), entering(self.path):
                alive = living_masters(self.path)
                files = [(file, _is_written(file.path)) for file in leftovers.find(self.path)]
                only_live = bool(alive) or _others_write(files)
                for (path, name, owned_by), written in files:
                    ended = owned_by.master is not None and owned_by.master not in alive
                    itself = (owned_by.kind, owned_by.master) == ("m", self._lock.pid)
                    if ended and (itself or not written) and (name.live or not only_live):
                        with contextlib.suppress(OSError):
                            self.removed += leftovers.remove(path)
                remove_processes_locks(self.path, alive)

    def _make(self, path: str) -> bool:
        if Path(path).is_dir():
            return False
        Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
        _give_to(path, self.user)
        return True

    def _remove_files(self, path: str, alive: set[int]) -> frozenset[str]:
        """Remove files without a writer: prometheus_client wants such a directory empty at the start.

        While another program writes there, counters of exited masters stay for readers of the whole directory.
        Those of a master that had this process's pid are removed.

        Returns:
            names of files with a number that a live process may have or not.
        """
        files = [(file, _is_written(file.path)) for file in leftovers.find(path)]
        others = _others_write(files)
        unsure = set()
        for (file, name, owned_by), written in files:
            if owned_by.master in alive or written:
                continue
            if owned_by.kind == "" and owned_by.master is None and (others or written is None):
                unsure.add(file.name)
            elif name.live or not others or owned_by.master == self._lock.pid:
                self.removed += leftovers.remove(file)
        remove_processes_locks(path, alive)
        return frozenset(unsure)


def _is_written(path: Path) -> bool | None:
    try:
        return is_written(path)
    except FileNotFoundError:
        return False


def _others_write(files: list[tuple[leftovers.Found, bool | None]]) -> bool:
    """Return whether a program without this package writes one of these files."""
    return any(written and file.owner.kind == "" and file.owner.master is None for file, written in files)


def _make_private(user: User) -> tuple[str, MasterLock]:
    # Under another name until it is locked: a directory without a lock would be removed as an abandoned one.
    hidden = tempfile.mkdtemp(prefix=f".{PREFIX}")
    try:
        lock = MasterLock(hidden)
        _give_to(hidden, user)
        path = str(Path(hidden).with_name(Path(hidden).name.removeprefix(".")))
        os.rename(hidden, path)
        lock.moved(path)
    except OSError:
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
                if (
                    is_named_so
                    and entry.stat(follow_symlinks=False).st_uid in uids
                    and not living_masters(entry.path, keep=True)
                ):
                    shutil.rmtree(entry.path, ignore_errors=True)


def _give_to(path: str, user: User) -> None:
    if user != (os.geteuid(), os.getegid()):
        os.chown(path, *user, follow_symlinks=False)
