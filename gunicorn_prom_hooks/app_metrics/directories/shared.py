"""A directory of the user's choice for the application's metrics."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ..reading.rewriting import User
from ..shared_path import SharedPath
from . import leftovers
from .directory import DirectoryInUse, give_to
from .leftovers import is_written
from .locks import MasterLock, entering, living_masters, remove_processes_locks


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
            except BaseException:
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
        give_to(path, self.user)
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
