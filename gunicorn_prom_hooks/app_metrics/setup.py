"""The application's own metrics: prometheus_client's multiprocess mode, set up so that it stays bounded."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any, Final

from prometheus_client import values
from prometheus_client.metrics_core import Metric

from ..concurrency import ForkLock, new_lock
from ..errors import ErrorReporter
from ..paths import escape_unprintable
from ..settings import Settings, announce_directory, named_directory
from .dead_processes import hand_over, remove_live
from .directories.directory import Directory
from .directories.private import PrivateDirectory
from .directories.shared import SharedDirectory
from .identity import Identity, owner
from .maintenance import Maintenance
from .notices import Notes, Notices
from .process_numbers import Numbers
from .reading.rewriting import User
from .recording.failures import is_own_failure
from .recording.store import Store
from .recording.value_class import value_class
from .registry_check import made_too_early, stand_aside

MAX_NAMED: Final = 10
"""Directories named by the application that are logged, each once."""


class ApplicationMetrics:
    """The application's metrics, kept in files of a directory. Created in the master, before any fork.

    Args:
        directory: of the files.
        log: gunicorn's logger.
        errors: reports failures.
        fork_lock: held while the exporter's thread logs; None: there are no forks.
        announced: whether prometheus_client was told of the directory, since the user has named one.
        is_configured: returns whether gunicorn's configuration or its environment names this directory, and not the
            application.

    Raises:
        OSError: the directory cannot be written to.
    """

    def __init__(
        self,
        directory: Directory,
        log: Any,
        errors: ErrorReporter,
        fork_lock: ForkLock | None,
        *,
        announced: bool,
        is_configured: Callable[[str], bool],
    ) -> None:
        self._directory = directory
        self._place = directory.place
        self._log = log
        self._errors = errors
        self._hold = nullcontext if fork_lock is None else fork_lock.hold
        self._notices = Notices()
        errors.count_noted = self._count_noted
        self._taking = new_lock()
        """Held while the notes are taken; never in a child."""
        self._named: set[str] = set()
        """Directories that the application has named, and that are logged."""
        self._numbers = Numbers(directory.place, directory.suffix)
        self._numbers.make(*directory.user)
        self._identity = Identity(directory.suffix, self._claim)
        self._store = Store(
            directory.place,
            self._ensure,
            self._identity,
            self._notices.failed,
            announced=announced,
        )
        self._maintenance = Maintenance(directory, self._numbers, self._store.renew, log, errors, fork_lock)
        self._log_removed()
        atexit.register(directory.close)  # a start that fails calls no on_exit
        atexit.register(self._store.settle)
        # Last, when nothing can fail any more: with values the directory is made again whenever it is gone.
        # Documented by prometheus_client: it makes the values of a new metric by this class.
        values.ValueClass = value_class(self._store, is_configured, self._notices.names)

    def collect(self) -> list[Metric]:
        """Return the application's families over all processes. In a thread of its own, without the fork lock."""
        if not self._notices.is_empty:
            with self._hold():
                self._log_notices()
        return self._maintenance.collect()

    def before_fork(self, *, check_all: bool) -> None:
        """Make sure, before a fork, that the directory is there, even if it was removed meanwhile.

        Args:
            check_all: go through all files, too.

        Raises:
            OSError: it cannot be.
        """
        if not self._notices.is_empty:
            self._log_notices()
        self._maintenance.before_fork(check_all=check_all)

    def become_worker(self, slot: int, *, has_predecessor: bool = True) -> None:
        """Become the worker in this slot."""
        self._place.refresh()
        identity = self._identity.become_worker(slot)
        if has_predecessor:
            self._hand_over(identity, self._directory.user)
        self._store.become_worker()

    def worker_exited(self, slot: int) -> None:
        """Remove the live gauges of an exited worker. In the master; before gunicorn 24 maybe in a signal handler."""
        remove_live(self._place.path, self._identity.of_slot(slot))

    def close(self) -> None:
        """Remove the files of this server, as far as no other program reads them."""
        self._directory.close()
        if not self._notices.is_empty:
            self._log_notices()
        self._log_removed()

    def _claim(self) -> str:
        """Return the identity of a forked process, which continues the files of an exited one.

        Raises:
            OSError: there is no directory to write to.
        """
        try:
            identity = self._identity.of_number(self._numbers.claim())
            self._hand_over(identity, None)
        except OSError as error:
            if not is_own_failure(error):
                raise
            self._notices.failed()
            return f"{os.getpid()}{self._directory.suffix}"
        return identity

    def _hand_over(self, identity: str, user: User | None) -> None:
        try:
            hand_over(self._place.path, identity, self._directory.suffix, user, self._numbers.exclusive)
        except OSError as error:  # the successor then begins with the predecessor's gauges
            if not is_own_failure(error):
                raise
            self._notices.failed()

    def _ensure(self) -> str:
        """Return the path of the directory, made again if it is gone. This process keeps the number that it has.

        Raises:
            OSError: it cannot be made, or another process has that number.
        """
        path = self._directory.ensure()
        known = owner(self._identity.known)
        if known.kind == "p" and known.number is not None:
            self._numbers.claim_again(known.number)
        return path

    def _count_noted(self) -> None:
        if self._taking.acquire(False):
            try:
                failures = self._notices.count()
            finally:
                self._taking.release()
            if failures:
                self._errors.count("app_metrics", failures)

    def _log_notices(self) -> None:
        """Log what processes have noted: in the master, whose thread holds no lock of a metric here."""
        if not self._taking.acquire(False):
            return  # another thread is doing it
        try:
            notes = self._notices.take()
        finally:
            self._taking.release()
        with suppress(Exception):  # the user's logger may fail
            self._log_notes(notes)

    def _log_notes(self, notes: Notes) -> None:
        if notes.text:
            self._errors.report_of("app_metrics", notes.pid, notes.text)
        for path in sorted(notes.named - self._named):
            if len(self._named) < MAX_NAMED:
                self._named.add(path)
                self._log.warning(
                    "gunicorn_prom_hooks: the application names %s for its metrics after gunicorn has started: they "
                    "are kept there, and not on the page; set PROMETHEUS_MULTIPROC_DIR where gunicorn is started",
                    escape_unprintable(path),
                )

    def _log_removed(self) -> None:
        removed, self._directory.removed = self._directory.removed, 0
        if removed:
            self._log.info(
                "gunicorn_prom_hooks: application metrics: %d files of exited processes removed from %s",
                removed,
                self._place.path,
            )


def begin(
    server: Any,
    settings: Settings,
    errors: ErrorReporter,
    fork_lock: ForkLock | None = None,
) -> ApplicationMetrics | None:
    """Set up the application's metrics; None if that fails, with a line in the log.

    Args:
        server: gunicorn's arbiter, before it has loaded the application.
        settings: of this package.
        errors: reports failures.
        fork_lock: held while the exporter's thread logs; None: there are no forks.
    """
    cfg, log = server.cfg, server.log
    # Both may have been set since ``install`` was called.
    at_start = named_directory(cfg.env), named_directory(), named_directory(cfg.env_orig)
    named = at_start[0] or at_start[1]
    path = named if settings.multiproc_dir is None else settings.multiproc_dir
    path = path and os.path.abspath(path)
    if not (path or settings.port):
        return None  # there is no page
    early = made_too_early()
    if early:
        log.warning(
            "gunicorn_prom_hooks: metrics made before gunicorn started count in each process for itself: %s; "
            "make them in the application, not in the config file or in what it imports",
            ", ".join(early),
        )

    def is_configured(path: str) -> bool:
        return path in at_start or path == named_directory(server.cfg.env)  # a reload may have changed the latter

    directory: Directory | None = None
    try:
        if path:
            # The arbiter reads its predecessor's pid only later, and gunicorn then deletes the variable.
            predecessor = cfg.env_orig.get("GUNICORN_PID", "")
            directory = SharedDirectory(path, int(predecessor) if predecessor.isdecimal() else 0, cfg.uid, cfg.gid)
        else:
            directory = PrivateDirectory(cfg.uid, cfg.gid)
        # A private directory is not in the environment: the application, and an exporter of its own that reads the
        # variable, work as without this package.
        if path:
            announce_directory(path)
        return ApplicationMetrics(directory, log, errors, fork_lock, announced=bool(path), is_configured=is_configured)
    except Exception as error:  # noqa: BLE001 - MemoryError included: the directory must not be left behind
        if directory is not None:
            directory.close()
        errors.count("app_metrics")
        log.error(
            "gunicorn_prom_hooks: no application metrics: directory %s: %s; the server goes on without them",
            path or "for temporary files",
            getattr(error, "strerror", None) or str(error) or type(error).__name__,
        )
        if path:
            stand_aside(path)
        return None
