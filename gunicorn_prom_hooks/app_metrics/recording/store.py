"""The files of a process with its metrics: opened when needed, closed at a fork, made again when lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary, ref

from ...concurrency import new_reentrant_lock
from ..shared_path import SharedPath
from .cell import Cell, Kept
from .failures import is_own_failure
from .group import Group
from .mapped_file import Damaged, MappedFile


class Store:
    """The files of this process, and all values of its metrics.

    A file is opened when the first metric is to be put into it. The master puts a metric there when it is first
    changed, so that one that only workers change is in their files alone; a worker puts all of its metrics there.

    The files of exited processes are continued: a cell begins with the content of the file, which only the page
    shows, and a value begins at zero.

    Args:
        place: path of the directory, and its generation, which changes when files were lost.
        ensure: makes the directory again if it is gone, and returns its path.
        identity: of this process.
        failed: notes the exception being handled. Metrics are locked then: it takes no lock, and logs nothing.
        announced: whether the environment names the directory for prometheus_client. It is set again with each metric.
            As in the multiprocess mode, a forked process begins to count at 0.
    """

    def __init__(
        self,
        place: SharedPath,
        ensure: Callable[[], str],
        identity: Callable[[], str],
        failed: Callable[[], None],
        *,
        announced: bool,
    ) -> None:
        self.place = place
        self.announced = announced
        self.generation = 0
        """Number of forks up to this process, plus one for becoming a worker; counted from the first metric on."""
        self.seen = place.generation()
        """The generation of the directory that the open files belong to."""
        self.lock: Any = new_reentrant_lock()
        self._ensure = ensure
        self._identity = identity
        self._failed = failed
        self._files: dict[str, MappedFile] = {}
        self._groups: WeakValueDictionary[tuple[Any, ...], Group] = WeakValueDictionary()
        self._at_once = False
        self._is_used = False
        """There was a metric. Until then there is nothing to close or to move, in a process just forked."""
        self._is_busy = False
        """Files are being opened, extended or renewed. What a change within that needs is done after it."""
        self._late: list[Any] = []
        """Values that wait for that."""
        self._kept_open = [True]
        """Emptied when all values that are kept in memory are to look for a file."""
        os.register_at_fork(after_in_child=self._forked)

    def become_worker(self) -> None:
        """Put all metrics into the files of the process's current identity."""
        self._at_once = True
        if not self._is_used:
            return
        with self.lock:
            self._close()
            self._is_busy = True
            try:
                hopeless: set[str] = set()
                for group in self._all_groups():
                    if group.kind in hopeless:
                        self._keep_in_memory(group)
                    elif not self._attach(group) and group.kind not in self._files:
                        hopeless.add(group.kind)
            finally:
                self._is_busy = False
            self._attach_late()

    def renew(self) -> None:
        """Write open files again that are not in the directory any more.

        The counts of this process are in the mapping of its file, which stays after the file is removed. Metrics that
        are kept in memory are tried again, too. It raises nothing but what a signal handler raises meanwhile.
        """
        with self.lock:
            if self._is_busy:
                return
            self.seen = self.place.generation()  # also after a failure: not tried at each change
            self._is_busy = True
            try:
                for kind, file in list(self._files.items()):
                    try:
                        file.renew(_path(self._ensure(), kind, self._identity()))
                    except Exception as error:
                        if not is_own_failure(error):
                            raise
                        self._failed()
                for group in self._all_groups():
                    if group.failed:
                        group.attached, group.failed = -1, False
                self._leave_memory()
            except BaseException:
                self.seen = -1
                raise
            finally:
                self._is_busy = False
            self._attach_late()

    def settle(self) -> None:
        """Write lost files again, before the process ends."""
        if self.seen != self.place.generation():
            self.renew()

    def add(self, value: Any, metric: tuple[Any, ...], kind: str, *, last: bool) -> Group:
        """Add a new value.

        Args:
            value: a ``Value``.
            metric: family and label values that it has in common with the other values of its group.
            kind: the beginning of the file's name.
            last: whether it is the last one of its group.
        """
        with self.lock:
            self._is_used = True
            group = self._groups.get((kind, *metric))
            if group is None:
                group = self._groups[(kind, *metric)] = Group(kind)
            group.values.append(ref(value))
            if last:
                for known in list(group.values):  # one by one: a value may be added meanwhile
                    if known() is None:
                        group.values.remove(known)
            if group.attached == self.generation or (last and self._at_once):
                self.attach(group, value)
            return group

    def attach(self, group: Group, value: Any) -> None:
        """Put a group that is about to be changed into the file of this process, or keep it in memory.

        Called with the lock held. It raises nothing but what a signal handler raises meanwhile.

        Args:
            group: of the value.
            value: the one to be changed.
        """
        if self._is_busy:  # within another change of this thread
            if value.cell.kept is None or not value.cell.kept.is_open:
                self._late.append(value)
                self._keep(value)
            return
        self._is_busy = True
        try:
            self._attach(group)
        finally:
            self._is_busy = False
        self._attach_late()

    def _attach_late(self) -> None:
        while self._late:
            value = self._late.pop()
            self._is_busy = True
            try:
                self._attach(value.group)
            finally:
                self._is_busy = False

    def _attach(self, group: Group) -> bool:
        """Return whether the group is in the file."""
        if group.failed and group.attached == self.generation:  # some of its values were made later than the others
            self._keep_in_memory(group)
            return False
        members = [value for known in group.values if (value := known()) is not None]
        try:
            file = self._files.get(group.kind) or self._open(group.kind)
            cells = file.cells([value.key for value in members])
        except BaseException as error:
            if not is_own_failure(error):
                self._drop(group.kind)
                raise
            self._keep_in_memory(group)
            self._failed()
            return False
        group.attached, group.failed = self.generation, False
        for value, cell in zip(members, cells, strict=True):
            value.enter(cell)
        return True

    def _keep_in_memory(self, group: Group) -> None:
        group.attached, group.failed = self.generation, True
        for known in list(group.values):
            value = known()
            if value is not None:
                self._keep(value)

    def _keep(self, value: Any) -> None:
        """Keep a value in memory only. A gauge that was in a file keeps its number."""
        kept = value.cell.kept
        if kept is None or not kept.is_open:
            start = value.to_keep()
            value.enter(Cell(kept := Kept(self._kept_open, start), 0, start, kept))

    def _drop(self, kind: str) -> None:
        """Close a file whose change was interrupted: it is opened and read again at the next change of a metric."""
        file = self._files.pop(kind, None)
        if file is not None:
            file.close()

    def _all_groups(self) -> list[Group]:
        # In one step: a group may be added meanwhile.
        return [group for known in self._groups.valuerefs() if (group := known()) is not None]

    def _open(self, kind: str) -> MappedFile:
        path = _path(self._ensure(), kind, self._identity())
        try:
            file = MappedFile(path)
        except (Damaged, PermissionError):
            # Or another user's; the worker before left it like that.
            os.replace(path, Path(path).with_suffix(".damaged"))
            self._failed()
            file = MappedFile(path)
        self._files[kind] = file
        return file

    def _close(self) -> None:
        """Have each value find its new file when it is next changed."""
        self.generation += 1
        self.seen = self.place.generation()
        files, self._files = self._files, {}
        for file in files.values():
            file.close()
        self._leave_memory()

    def _leave_memory(self) -> None:
        """Have each value that is kept in memory find a file when it is next changed."""
        kept_open, self._kept_open = self._kept_open, [True]
        kept_open.clear()

    def _forked(self) -> None:
        self.lock = new_reentrant_lock()
        self._is_busy = False
        self._late.clear()
        if self._is_used:
            self._close()


def _path(folder: str, kind: str, identity: str) -> str:
    return str(Path(folder, f"{kind}_{identity}.db"))
