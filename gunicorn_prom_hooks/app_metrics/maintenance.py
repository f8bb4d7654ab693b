"""The master's work on the files of all processes: it reads them for a page, and makes lost ones again."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

from prometheus_client.metrics_core import Metric

from ..concurrency import ForkLock, new_lock
from ..errors import ErrorReporter
from ..inherited_descriptors import below, transient
from ..paths import escape_unprintable
from .dead_processes import Retired, remove_live
from .directories.directory import Directory
from .directories.leftovers import Found, content_of, find, is_written, remove
from .identity import owner
from .process_numbers import Numbers
from .reading.file_names import FileName
from .reading.merge import FileContent, MultiprocessFiles
from .reading.rewriting import add

MAX_LOGGED: Final = 1000
"""Bad files and names that are logged, each once."""


class Maintenance:
    """Maintenance of the directory: read its files, write lost ones again, and remove those without a use.

    Args:
        directory: of the files.
        numbers: of forked processes.
        renew: writes the master's own files again.
        log: gunicorn's logger.
        errors: reports failures.
        fork_lock: held while the exporter's thread logs; None: there are no forks.
    """

    def __init__(
        self,
        directory: Directory,
        numbers: Numbers,
        renew: Callable[[], None],
        log: Any,
        errors: ErrorReporter,
        fork_lock: ForkLock | None,
    ) -> None:
        self._directory = directory
        self._place = directory.place
        self._numbers = numbers
        self._renew = renew
        self._log = log
        self._errors = errors
        self._hold = nullcontext if fork_lock is None else fork_lock.hold
        self._master = int(directory.suffix[1:]) if directory.suffix else None
        self._files = MultiprocessFiles(directory.place.path, self._bad, self._reads, self._left_out)
        self._retired = Retired(directory.suffix, directory.user, numbers.exclusive)
        self._busy = new_lock()
        """Held while files are checked and read; never in a child."""
        self._kept: Mapping[str, FileContent] = {}
        """The content of this server's files at the last page, by name. Replaced as a whole."""
        self._was_lost = False
        """The last check has found files lost. Where they cannot be looked at, each check finds that."""
        self._is_restored = True
        """The directory was found or made before it is read."""
        self._unsure = {name: _content(Path(directory.place.path, name)) for name in directory.unsure}
        self._logged: set[str] = set()

    def collect(self) -> list[Metric]:
        """Return the application's families, over all its processes. In the exporter's thread."""
        with self._busy, transient((self._is_inside,)):
            try:
                message = self._restore()
                self._is_restored = True
            except OSError:
                message = ""
                self._is_restored = False
                with self._hold():
                    self._errors.report("app_metrics")
            if message:
                with self._hold():
                    self._log.warning("%s", message)
            self._files.move(self._place.path)
            families = self._files.collect()
            own = {name: file for name, file in self._files.last_read.items() if self._is_own(file.name)}
            self._kept = {**self._kept, **own}
        return families

    def before_fork(self, *, check_all: bool) -> None:
        """Make the directory and files again if they were removed. Before a fork, in the main thread.

        Args:
            check_all: go through all files. Else this is done only if the directory or the file with the locks is gone.

        Raises:
            OSError: it cannot be.
        """
        if not check_all and self._numbers.is_current():
            return
        if not self._busy.acquire(False):
            return  # the exporter's thread is doing it
        try:
            message = self._restore()
        finally:
            self._busy.release()
        if message:
            self._log.warning("%s", message)

    def _restore(self) -> str:
        """Make the directory and lost files again, and remove files without a use. Return a line for the log, or "".

        Raises:
            OSError: it cannot be.
        """
        before = self._place.path
        lost = self._directory.restore()
        path = self._place.refresh()
        lost |= self._numbers.make(*self._directory.user)
        for name in set(self._kept) - set(os.listdir(path)):
            lost |= add(Path(path, name), self._kept[name].content(), self._directory.user)
        if lost:
            self._place.changed(path)
            self._renew()  # the master may have files, too
        files = [file for file in find(path) if self._reads(file.path.name, file.name)]
        for file in files:
            if file.name.live:
                self._remove_live_gauge(file)
        self._retired.sweep(file for file in files if file.owner.kind == "" and not file.name.live)
        was_lost, self._was_lost = self._was_lost, lost
        if not lost or was_lost:
            return ""
        return f"gunicorn_prom_hooks: application metrics: files were removed from {before}; made anew in {path}"

    def _remove_live_gauge(self, file: Found) -> None:
        """Remove live gauges of a process that has certainly exited."""
        kind, number, _ = file.owner
        with contextlib.suppress(OSError):
            if kind == "p" and number is not None:
                with self._numbers.hold_dead(number) as dead:
                    if dead:
                        remove_live(self._place.path, file.name.identity)
            elif kind == "" and is_written(file.path) is False:
                remove(file.path)

    def _is_inside(self, descriptor: int, link: str) -> bool:
        return below(os.path.realpath(self._place.path))(descriptor, link)

    def _is_own(self, name: FileName) -> bool:
        found = owner(name.identity)
        return bool(found.kind) and found.master == self._master

    def _reads(self, file: str, name: FileName) -> bool:
        master = owner(name.identity).master
        if master is not None and master != self._master:
            return False
        if file in self._unsure:  # a live process changes its file sooner or later
            if self._unsure[file] == _content(Path(self._place.path, file)):
                return False
            del self._unsure[file]
        return True

    def _bad(self, file: str, reason: str) -> None:
        if file == self._place.path and not self._is_restored:
            return  # it could not be made, which is reported
        self._errors.count("app_metrics_file")
        if file not in self._logged and len(self._logged) < MAX_LOGGED:
            self._logged.add(file)
            with self._hold():
                self._log.error("gunicorn_prom_hooks: application metrics: file %r is left out: %s", file, reason)

    def _left_out(self, family: str, reason: str) -> None:
        """Log once that a family is not on the page, whose file is read."""
        known = f"{family}\n{reason}"
        if known not in self._logged and len(self._logged) < MAX_LOGGED:
            self._logged.add(known)
            self._errors.count("app_metrics_name")
            with self._hold():
                self._log.error(
                    "gunicorn_prom_hooks: the application's metric %s is left out: %s",
                    escape_unprintable(family),
                    reason,
                )


def _content(path: Path) -> bytes | None:
    """Return a digest of what is in the file; None if it cannot be read."""
    try:
        return hashlib.sha256(content_of(path)).digest()
    except OSError:
        return None
