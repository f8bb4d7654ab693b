"""Where the application's metrics are kept: a private directory that goes with the server, or one of the user's."""

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
from .locks import MasterLock, door, living_masters, remove_processes_locks
from .reading.rewriting import User
from .shared_path import SharedPath

PREFIX: Final = "gunicorn-prom-hooks-"
"""What the names of private directories begin with."""
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class DirectoryInUse(OSError):
    """Another server has its metrics in this directory."""


class NotOurs(OSError):
    """Something else is where the private directory was, or others may write to it."""


class Directory(Protocol):
    """Either kind.

    Attributes:
        place: where it is.
        user: its owner.
        removed: how many files of processes that are gone have been removed so far.
        unsure: files of which cannot be told whether they are of a process that is gone.
    """

    place: SharedPath
    user: User
    removed: int
    unsure: frozenset[str]

    @property
    def suffix(self) -> str:
        """What sets the files of this server apart from those of another one."""

    def ensure(self) -> str:
        """Return the path. Make the directory again if it is gone. In any process.

        Raises:
            OSError: it cannot be made, or is not what it was.
        """

    def restore(self) -> bool:
        """Make what is missing of the directory and the lock. In the master. Return whether anything was.

        Raises:
            OSError: it cannot be.
        """

    def close(self) -> None:
        """Leave nothing of this server behind. Doing it twice, or in a child, is harmless."""


class PrivateDirectory:
    """A new directory that only the user of the workers can enter, with a name that cannot be guessed.

    What masters that were killed have left of their own is removed.

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
        """Where it is."""
        return self.place.path

    def ensure(self) -> str:
        """Return the path. Make the directory again if it is gone. In any process.

        Raises:
            NotOurs: something else is there, such as another user's directory, or a link.
            OSError: it cannot be made.
        """
        path = self.place.refresh()
        if self._make(path):
            self.place.changed(path)
        return path

    def restore(self) -> bool:
        """Make what is missing of the directory and the lock. In the master. Return whether anything was.

        Where something else has taken its name, a new directory is made.

        Raises:
            OSError: it cannot be.
        """
        path = self.place.refresh()
        try:
            made = self._make(path)
        except NotOurs:
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
        """Remove it with all that is in it, and what masters that were killed have left since."""
        if self._lock.is_ours:
            path = self.place.refresh()
            with contextlib.suppress(OSError):
                if _is_private(path, self.user):
                    shutil.rmtree(path, ignore_errors=True)
            self._lock.close()
            _sweep({self.user.uid, os.geteuid()})

    def _make(self, path: str) -> bool:
        """Make the directory if nothing is there; return whether nothing was."""
        try:
            if _is_private(path, self.user):
                return False
        except FileNotFoundError:
            parent = Path(path).parent
            parent.mkdir(parents=True, exist_ok=True)
            if parent.stat().st_uid not in {self._parent_uid, os.geteuid(), 0}:
                raise NotOurs(f"{parent} belongs to another user now") from None
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)  # fails where there is anything, a link too
                _give_to(path, self.user)
                return True
            if _is_private(path, self.user):
                return False
        raise NotOurs(f"{path} is not the directory that it was")


class SharedDirectory:
    """A directory of the user's choice; made if it is not there.

    Two masters of one upgrade may be in there together. What masters left that live no more is removed.

    Args:
        path: the directory.
        parent: pid of the master that this one was started by to replace it; 0 if there is none.
        uid: of the workers.
        gid: of the workers.

    Raises:
        DirectoryInUse: by a server that this one has nothing to do with.
        OSError: it cannot be used.
    """

    def __init__(self, path: str, parent: int, uid: int, gid: int) -> None:
        self.user = User(uid, gid)
        self.removed = 0
        self._make(path)
        with door(path):
            alive = living_masters(path)
            strangers = alive - {parent}
            if strangers:
                raise DirectoryInUse(f"another gunicorn (pid {min(strangers)}) uses it")
            self._lock = MasterLock(path)
            try:
                self.place = SharedPath(path)
                self.unsure = self._remove_files(path, alive)
            except OSError:
                self._lock.close()
                raise

    @property
    def path(self) -> str:
        """Where it is."""
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
        """Make what is missing of the directory and the lock. In the master. Return whether anything was.

        Raises:
            OSError: it cannot be.
        """
        made = self._make(self.place.path)
        if self._lock.is_there:
            return made
        self._lock.take_again()
        return True

    def close(self) -> None:
        """Remove the files of this server and of those that are gone, and leave the directory.

        While another master of the upgrade is alive, or another program writes there, counters stay for readers of the
        whole directory.
        """
        if self._lock.is_ours:
            self._lock.close()
            with contextlib.suppress(OSError), door(self.path):
                alive = living_masters(self.path)
                files = [(file, _is_written(file.path)) for file in leftovers.find(self.path)]
                only_live = bool(alive) or _others_write(files)
                for (path, name, whose), written in files:
                    ended = whose.master is not None and whose.master not in alive
                    itself = (whose.kind, whose.master) == ("m", self._lock.pid)
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
            names of files with a number of which nothing tells whether a living process has it.
        """
        files = [(file, _is_written(file.path)) for file in leftovers.find(path)]
        others = _others_write(files)
        unsure = set()
        for (file, name, whose), written in files:
            if whose.master in alive or written:
                continue
            if whose.kind == "" and whose.master is None and (others or written is None):
                unsure.add(file.name)
            elif name.live or not others or whose.master == self._lock.pid:
                self.removed += leftovers.remove(file)
        remove_processes_locks(path, alive)
        return frozenset(unsure)


def _is_written(path: Path) -> bool | None:
    try:
        return is_written(path)
    except FileNotFoundError:
        return False


def _others_write(files: list[tuple[leftovers.Found, bool | None]]) -> bool:
    """Return whether a program that knows nothing of us writes one of these files."""
    return any(written and file.owner.kind == "" and file.owner.master is None for file, written in files)


def _make_private(user: User) -> tuple[str, MasterLock]:
    # Under another name until it is locked: one without a lock is taken for abandoned.
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
        OSError: it cannot be looked at.
    """
    status = os.lstat(path)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == user.uid and not status.st_mode & _OTHERS_MAY_WRITE


def _sweep(uids: set[int]) -> None:
    """Remove private directories of these users whose master is gone without having done so itself."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(tempfile.gettempdir()):
            with contextlib.suppress(OSError):
                ours = entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False)
                if (
                    ours
                    and entry.stat(follow_symlinks=False).st_uid in uids
                    and not living_masters(entry.path, keep=True)
                ):
                    shutil.rmtree(entry.path, ignore_errors=True)


def _give_to(path: str, user: User) -> None:
    if user != (os.geteuid(), os.getegid()):
        os.chown(path, *user, follow_symlinks=False)
