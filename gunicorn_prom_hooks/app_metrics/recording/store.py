"""The files of a process with its metrics: opened when needed, closed at a fork, made again when lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary, ref

from ...concurrency import new_reentrant_lock
from ..shared_path import SharedPath
from .mapped_file import Cell, Damaged, MappedFile


class _NotOpen:
    """The memory of a cell whose file is not open."""

    def __setitem__(self, where: slice, data: bytes) -> None:
        raise ValueError("no file yet")


NOT_OPEN: Final = Cell(_NotOpen(), 0)


class Group:
    """The values of one metric with one set of label values. All of them are in the file, or none.

    Attributes:
        kind: the beginning of the file's name.
        attached: the generation of processes in which they were put into the file, or could not be.
        failed: in that generation they are kept in memory only.
    """

    __slots__ = ("__weakref__", "attached", "failed", "kind", "values")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.values: list[ref[Any]] = []
        self.attached = -1
        self.failed = False


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
        failed: reports the exception being handled.
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
        self._in_memory = Cell(bytearray(16), 0)
        """The cell of all values without room in the files."""
        os.register_at_fork(after_in_child=self._forked)

    def become_worker(self) -> None:
        """Put all metrics into the files of the process's current identity."""
        self._at_once = True
        if not self._is_used:
            return
        with self.lock:
            self._close()
            hopeless: set[str] = set()
            for group in list(self._groups.values()):
                if group.kind in hopeless:
                    self._keep_in_memory(group)
                elif not self.attach(group) and group.kind not in self._files:
                    hopeless.add(group.kind)

    def renew(self) -> None:
        """Write open files again that are not in the directory any more. Never raises.

        The counts of this process are in the mapping of its file, which stays after the file is removed. Metrics that
        are kept in memory are tried again, too.
        """
        with self.lock:
            self.seen = self.place.generation()  # also after a failure: not tried at each change
            for kind, file in list(self._files.items()):
                try:
                    file.renew(_path(self._ensure(), kind, self._identity()))
                except Exception:  # noqa: BLE001 - this runs within a change of a metric, which must succeed
                    self._failed()
            for group in list(self._groups.values()):
                if group.failed:
                    group.attached, group.failed = -1, False
            self._leave_memory()

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
                group.values = [known for known in group.values if known() is not None]
            if group.attached == self.generation or (last and self._at_once):
                self.attach(group)
            return group

    def attach(self, group: Group) -> bool:
        """Put a group that is about to be changed into the file of this process, or keep it in memory. Never raises.

        Called with the lock held.

        Returns:
            Whether it is in the file.
        """
        if group.failed and group.attached == self.generation:  # some of its values were made later than the others
            self._keep_in_memory(group)
            return False
        members = [value for known in group.values if (value := known()) is not None]
        try:
            file = self._files.get(group.kind) or self._open(group.kind)
            cells = file.cells([value.key for value in members])
        except Exception:  # noqa: BLE001 - the application must go on for all that
            self._keep_in_memory(group)
            self._failed()
            return False
        group.attached, group.failed = self.generation, False
        for value, cell in zip(members, cells, strict=True):
            value.enter(cell)
        return True

    def _keep_in_memory(self, group: Group) -> None:
        group.attached, group.failed = self.generation, True
        for known in group.values:
            value = known()
            if value is not None:
                value.enter(self._in_memory)

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
        self._in_memory.memory = NOT_OPEN.memory
        self._in_memory = Cell(bytearray(16), 0)

    def _forked(self) -> None:
        self.lock = new_reentrant_lock()
        if self._is_used:
            self._close()


def _path(folder: str, kind: str, identity: str) -> str:
    return str(Path(folder, f"{kind}_{identity}.db"))
