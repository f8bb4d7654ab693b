"""The application's own metrics: prometheus_client's multiprocess mode, set up so that it stays bounded."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from prometheus_client import values
from prometheus_client.metrics_core import Metric

from ..guard import Guard
from ..settings import MULTIPROC_DIR, Settings, announce_directory
from .attach import attach_again
from .directory import Directory, PrivateDirectory, SharedDirectory
from .early import forget_predecessor, made_too_early
from .gauges import hand_over, remove_live
from .identity import Identity, owner
from .leftovers import content_of, find, remove
from .merge import MultiprocessFiles, Seen
from .names import FileName
from .processes import Numbers
from .rewriting import User, add
from .value import value_class
from .writers import is_written

MAX_TOLD: Final = 1000


class ApplicationMetrics:
    """From here on the application's metrics are kept in files of this directory. In the master, before any fork.

    Args:
        directory: where.
        log: gunicorn's logger.
        guard: where failures end.
        hold: what must be held while the exporter's thread logs.

    Raises:
        OSError: the directory cannot be written to.
    """

    def __init__(
        self, directory: Directory, log: Any, guard: Guard, hold: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._hold = hold
        self._directory = directory
        self._place = directory.place
        self._log = log
        self._guard = guard
        self._numbers = Numbers(directory.place, directory.suffix)
        self._numbers.make(*directory.user)
        self._identity = Identity(directory.suffix, directory.place, self._claim, self._attach)
        self._was_at = directory.place.path
        self._told: set[str] = set()
        self._master = int(directory.suffix[1:]) if directory.suffix else None
        self._files = MultiprocessFiles(directory.place.path, self._bad, self._reads)
        self._kept: Mapping[str, Seen] = {}
        """What is known of the files that only this server's processes remove. Replaced as a whole."""
        self._unsure = {name: _content(Path(directory.place.path, name)) for name in directory.unsure}
        self._say_removed()
        # Documented by prometheus_client: a metric's value is made of whatever this is at that moment.
        values.ValueClass = value_class(directory.ensure, self._identity, lambda: guard.failed("app_metrics"))
        atexit.register(directory.close)  # a start that fails calls no on_exit
        atexit.register(self._identity.settle)

    def collect(self) -> list[Metric]:
        """The application's families, over all its processes. In the exporter's thread, without the master's lock."""
        try:
            self._restore()
            self._remove_live_gauges()
        except OSError:
            with self._hold():
                self._guard.failed("app_metrics")
        self._files.move(self._place.path)
        families = self._files.collect()
        ours = {name: seen for name, seen in self._files.seen.items() if self._is_ours(seen.name)}
        self._kept = {**self._kept, **ours}
        return families

    def forking(self) -> None:
        """Before a fork: the directory is there, even if somebody has tidied up meanwhile.

        Raises:
            OSError: it cannot be.
        """
        self._restore()
        self._remove_live_gauges()

    def become_worker(self, slot: int, *, has_predecessor: bool = True) -> None:
        """This process is now the worker in this slot."""
        self._was_at = self._place.refresh()
        self._identity.become_worker(slot)
        if has_predecessor:
            self._hand_over(self._identity(), self._directory.user)

    def worker_gone(self, slot: int) -> None:
        """Live gauges go with their worker. In the master; before gunicorn 24 maybe in a signal handler."""
        remove_live(self._place.path, self._identity.of_slot(slot))

    def close(self) -> None:
        """Leaves nothing behind."""
        self._directory.close()
        self._say_removed()

    def _claim(self) -> str:
        """The identity of a forked process, which goes on with the files of one that is gone.

        Raises:
            OSError: there is no directory to write to.
        """
        self._was_at = self._directory.ensure()
        try:
            identity = self._identity.of_number(self._numbers.claim())
            self._hand_over(identity, None)
        except OSError:
            self._guard.failed("app_metrics")
            return f"{os.getpid()}{self._directory.suffix}"
        return identity

    def _hand_over(self, identity: str, user: User | None) -> None:
        try:
            hand_over(self._place.path, identity, self._directory.suffix, user, self._numbers.exclusive)
        except OSError:  # the successor then begins where the predecessor's gauges were
            self._guard.failed("app_metrics")

    def _attach(self, identity: str) -> None:
        """Files of the directory have been lost: what this process has counted goes into new ones."""
        try:
            before, self._was_at = self._was_at, self._directory.ensure()
            announce_directory(self._was_at)
            whose = owner(identity)
            if whose.kind == "p" and whose.number is not None:
                self._numbers.claim_again(whose.number)
            attach_again(self._was_at, before)
        except Exception:  # noqa: BLE001 - in the midst of a change of a metric, which is to come through
            self._guard.failed("app_metrics")

    def _restore(self) -> None:
        """Makes anew what somebody has removed, and has all processes make their files anew."""
        lost = self._directory.restore()
        path = self._place.refresh()
        lost |= self._numbers.make(*self._directory.user)
        for name in set(self._kept) - set(os.listdir(path)):
            lost |= add(Path(path, name), self._kept[name].content(), self._directory.user)
        if lost:
            self._place.changed(path)
            self._identity()  # the master may have files, too

    def _remove_live_gauges(self) -> None:
        """Removes live gauges of processes that are gone, if it is sure that they are."""
        path = self._place.path
        for file, name, whose in find(path):
            if not name.live or not self._reads(file.name, name):
                continue
            with contextlib.suppress(OSError):
                if whose.kind == "p" and whose.number is not None:
                    with self._numbers.hold_dead(whose.number) as dead:
                        if dead:
                            remove_live(path, name.identity)
                elif whose.kind == "" and is_written(file) is False:
                    remove(file)

    def _is_ours(self, name: FileName) -> bool:
        whose = owner(name.identity)
        return bool(whose.kind) and whose.master == self._master

    def _reads(self, file: str, name: FileName) -> bool:
        master = owner(name.identity).master
        if master is not None and master != self._master:
            return False
        if file in self._unsure:  # a process that writes it has it changed sooner or later
            if self._unsure[file] == _content(Path(self._place.path, file)):
                return False
            del self._unsure[file]
        return True

    def _say_removed(self) -> None:
        removed, self._directory.removed = self._directory.removed, 0
        if removed:
            self._log.info(
                "gunicorn_prom_hooks: application metrics: %d files of processes that are gone removed from %s",
                removed,
                self._place.path,
            )

    def _bad(self, file: str, reason: str) -> None:
        self._guard.counts["app_metrics_file"] += 1
        if file not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(file)
            with self._hold():
                self._log.error("gunicorn_prom_hooks: application metrics: file %r is left out: %s", file, reason)


def _content(path: Path) -> bytes | None:
    """A digest of what is in the file; None if it cannot be read."""
    try:
        return hashlib.sha256(content_of(path)).digest()
    except OSError:
        return None


def begin(
    server: Any,
    settings: Settings,
    guard: Guard,
    hold: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> ApplicationMetrics | None:
    """Sets up the application's metrics; None if that cannot be, with a line in the log.

    Args:
        server: gunicorn's arbiter, before it has loaded the application.
        settings: ours.
        guard: where failures end.
        hold: what must be held while the exporter's thread logs.
    """
    cfg, log = server.cfg, server.log
    path = settings.multiproc_dir or cfg.env.get(MULTIPROC_DIR, "")
    if not (path or settings.port):
        forget_predecessor()
        return None  # there is no page
    early = made_too_early()
    if early:
        log.warning(
            "gunicorn_prom_hooks: metrics made before gunicorn started count in each process for itself: %s; "
            "make them in the application, not in the config file or in what it imports",
            ", ".join(early),
        )
    directory: Directory | None = None
    try:
        if path:
            # The arbiter itself learns of its predecessor only later; gunicorn takes the variable away after that.
            predecessor = cfg.env_orig.get("GUNICORN_PID", "")
            directory = SharedDirectory(
                os.path.abspath(path), int(predecessor) if predecessor.isdecimal() else 0, cfg.uid, cfg.gid
            )
        else:
            directory = PrivateDirectory(cfg.uid, cfg.gid)
        announce_directory(directory.place.path, private=not path)
        return ApplicationMetrics(directory, log, guard, hold)
    except OSError as error:
        if directory is not None:
            directory.close()
        log.error(
            "gunicorn_prom_hooks: no application metrics: directory %s: %s; the server goes on without them",
            path or "for temporary files",
            error.strerror or error,
        )
        _stand_aside(path)
        return None


def _stand_aside(path: str) -> None:
    """Leaves prometheus_client as it is without us, so that what the user's hooks and application do with it works.

    Args:
        path: the user's directory; empty if there is none.
    """
    if not path:
        forget_predecessor()
        return
    announce_directory(path)
    if not (os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK)):
        values.ValueClass = values.MutexValue  # prometheus_client would raise where the application makes metrics
    elif not getattr(values.ValueClass, "_multiprocess", False):
        values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]  # gunicorn sets raw_env later than we have imported this
