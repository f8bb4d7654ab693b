"""Where the application's metrics are kept: a private directory that goes with the server, or one of the user's."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final, Protocol

from ..pids import exists
from .identity import owner
from .locks import MasterLock, door, living_masters
from .names import parse_name

PREFIX: Final = "gunicorn-prom-hooks-"
"""What the names of private directories begin with."""


class DirectoryInUse(OSError):
    """Another server has its metrics in this directory."""


class Directory(Protocol):
    """Either kind."""

    path: str

    @property
    def suffix(self) -> str:
        """What sets the files of this server apart from those of another one."""

    def restore(self) -> None:
        """Makes the directory again if somebody has removed it.

        Raises:
            OSError: it cannot be.
        """

    def close(self) -> None:
        """Leaves nothing of this server behind. Doing it twice, or in a child, is harmless."""


class PrivateDirectory:
    """A new directory that only the user of the workers can enter, with a name that nobody can guess.

    What masters that were killed have left of their own is removed.

    Args:
        uid: of the workers.
        gid: of the workers.

    Raises:
        OSError: none can be made.
    """

    suffix: Final = ""

    def __init__(self, uid: int, gid: int) -> None:
        self._user = uid, gid
        _sweep({uid, os.geteuid()})
        # Under another name until it is locked: one without a lock is taken for abandoned.
        self.path = tempfile.mkdtemp(prefix=f".{PREFIX}")
        try:
            self._lock = MasterLock(self.path)
            _give_to(self.path, uid, gid)
            path = str(Path(self.path).with_name(Path(self.path).name.removeprefix(".")))
            os.rename(self.path, path)
            self.path = path
            self._lock.moved(path)
        except OSError:
            shutil.rmtree(self.path, ignore_errors=True)
            raise

    def restore(self) -> None:
        """Makes it again if somebody has removed it.

        Raises:
            OSError: it cannot be.
        """
        _make_again(self.path, self._lock, *self._user)

    def close(self) -> None:
        """Removes it with all that is in it, and what masters that were killed have left since."""
        if self._lock.is_ours:
            shutil.rmtree(self.path, ignore_errors=True)
            self._lock.close()
            _sweep({self._user[0], os.geteuid()})


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
        self.path = path
        self._user = uid, gid
        if not Path(path).is_dir():
            Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
            _give_to(path, uid, gid)
        with door(path):
            alive = living_masters(path)
            strangers = alive - {parent}
            if strangers:
                raise DirectoryInUse(f"another gunicorn (pid {min(strangers)}) uses it")
            self._lock = MasterLock(path)
            try:
                self._remove_files(alive)
            except OSError:
                self._lock.close()
                raise

    @property
    def suffix(self) -> str:
        """The pid of the master."""
        return f"-{self._lock.pid}"

    def restore(self) -> None:
        """Makes it again if somebody has removed it.

        Raises:
            OSError: it cannot be.
        """
        _make_again(self.path, self._lock, *self._user)

    def close(self) -> None:
        """Removes the files of this server and of those that are gone, and leaves the directory."""
        if self._lock.is_ours:
            self._lock.close()
            with contextlib.suppress(OSError), door(self.path):
                alive = living_masters(self.path)
                for file, identity in _files(self.path):
                    master = owner(identity).master
                    if master is not None and master not in alive:
                        _unlink(file)

    def _remove_files(self, alive: set[int]) -> None:
        """Removes what nobody writes any more: prometheus_client wants such a directory empty at the start."""
        for file, identity in _files(self.path):
            pid, master = owner(identity)
            if master not in alive and (pid is None or not exists(pid)):
                _unlink(file)


def _files(path: str) -> list[tuple[Path, str]]:
    """prometheus_client's files, and whose they are."""
    parsed = [(name, parse_name(name)) for name in os.listdir(path)]
    return [(Path(path) / name, parts.identity) for name, parts in parsed if parts is not None]


def _sweep(uids: set[int]) -> None:
    """Removes private directories of these users whose master is gone without having done so itself."""
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


def _make_again(path: str, lock: MasterLock, uid: int, gid: int) -> None:
    if not os.path.isdir(path):
        os.makedirs(path, 0o700)
        lock.take_again()
        _give_to(path, uid, gid)


def _give_to(path: str, uid: int, gid: int) -> None:
    if (uid, gid) != (os.geteuid(), os.getegid()):
        os.chown(path, uid, gid)


def _unlink(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink()
