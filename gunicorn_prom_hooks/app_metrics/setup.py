"""The application's own metrics: prometheus_client's multiprocess mode, set up so that it stays bounded."""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
from typing import Any

from prometheus_client import values
from prometheus_client.metrics_core import Metric

from ..concurrency import ForkLock
from ..errors import ErrorReporter
from ..settings import Settings, announce_directory, named_directory
from .dead_processes import hand_over, remove_live
from .directory import Directory, PrivateDirectory, SharedDirectory
from .identity import Identity, owner
from .maintenance import Maintenance
from .process_numbers import Numbers
from .reading.rewriting import User
from .recording.store import Store
from .recording.value_class import value_class


def made_too_early() -> list[str]:
    """Names of the metrics in prometheus_client's default registry that are kept in the memory of one process."""
    if "prometheus_client" not in sys.modules:
        return []
    from prometheus_client import REGISTRY, metrics, values

    if getattr(values.ValueClass, "_multiprocess", False):
        return []  # the variable was set before the import: they are in files, and on the page
    names = []
    for collector in list(getattr(REGISTRY, "_collector_to_names", ())):
        if isinstance(collector, metrics.MetricWrapperBase):
            names += [family.name for family in collector.describe()]
    return sorted(names)


def stand_aside(path: str) -> None:
    """Leave prometheus_client as it is without us, so that what the user's hooks and application do with it works.

    Args:
        path: the user's directory.
    """
    from prometheus_client import values

    announce_directory(path)
    try:
        tempfile.TemporaryFile(dir=path).close()
    except OSError:
        values.ValueClass = values.MutexValue  # prometheus_client would raise where the application makes metrics
        return
    if not getattr(values.ValueClass, "_multiprocess", False):
        # gunicorn sets raw_env later than we have imported this.
        values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]


class ApplicationMetrics:
    """From here on the application's metrics are kept in files of this directory. In the master, before any fork.

    Args:
        directory: where.
        log: gunicorn's logger.
        errors: where failures end.
        fork_lock: held while the exporter's thread logs; None: there are no forks.
        announced: whether prometheus_client was told of the directory, since the user has named one.
        named: the directory that the environment of the workers names at the start.

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
        named: str,
    ) -> None:
        self._directory = directory
        self._place = directory.place
        self._log = log
        self._errors = errors
        self._numbers = Numbers(directory.place, directory.suffix)
        self._numbers.make(*directory.user)
        self._identity = Identity(directory.suffix, self._claim)
        self._store = Store(
            directory.place,
            self._ensure,
            self._identity,
            lambda: errors.report("app_metrics"),
            announced=announced,
        )
        self._maintenance = Maintenance(directory, self._numbers, self._store.renew, log, errors, fork_lock)
        self._say_removed()
        # Documented by prometheus_client: a metric's value is made of whatever this is at that moment.
        values.ValueClass = value_class(self._store, named, self._say_named)
        atexit.register(directory.close)  # a start that fails calls no on_exit
        atexit.register(self._store.settle)

    def collect(self) -> list[Metric]:
        """Return the application's families over all processes. In the exporter's thread, without the fork lock."""
        return self._maintenance.collect()

    def before_fork(self, *, check_all: bool) -> None:
        """Make sure, before a fork, that the directory is there, even if it was removed meanwhile.

        Args:
            check_all: go through all files, too.

        Raises:
            OSError: it cannot be.
        """
        self._maintenance.before_fork(check_all=check_all)

    def become_worker(self, slot: int, *, has_predecessor: bool = True) -> None:
        """Become the worker in this slot."""
        self._place.refresh()
        identity = self._identity.become_worker(slot)
        if has_predecessor:
            self._hand_over(identity, self._directory.user)
        self._store.become_worker()

    def worker_exited(self, slot: int) -> None:
        """Live gauges go with their worker. In the master; before gunicorn 24 maybe in a signal handler."""
        remove_live(self._place.path, self._identity.of_slot(slot))

    def close(self) -> None:
        """Leaves nothing behind."""
        self._directory.close()
        self._say_removed()

    def _claim(self) -> str:
        """Return the identity of a forked process, which continues the files of an exited one.

        Raises:
            OSError: there is no directory to write to.
        """
        try:
            identity = self._identity.of_number(self._numbers.claim())
            self._hand_over(identity, None)
        except OSError:
            self._errors.report("app_metrics")
            return f"{os.getpid()}{self._directory.suffix}"
        return identity

    def _hand_over(self, identity: str, user: User | None) -> None:
        try:
            hand_over(self._place.path, identity, self._directory.suffix, user, self._numbers.exclusive)
        except OSError:  # the successor then begins where the predecessor's gauges were
            self._errors.report("app_metrics")

    def _ensure(self) -> str:
        """Return the path of the directory, made again if it is gone. This process keeps the number that it has.

        Raises:
            OSError: it cannot be made, or another process has that number.
        """
        path = self._directory.ensure()
        whose = owner(self._identity.known)
        if whose.kind == "p" and whose.number is not None:
            self._numbers.claim_again(whose.number)
        return path

    def _say_named(self, path: str) -> None:
        self._log.warning(
            "gunicorn_prom_hooks: the application names %s for its metrics after gunicorn has started: they are kept "
            "there, and not on the page; set PROMETHEUS_MULTIPROC_DIR where gunicorn is started",
            path,
        )

    def _say_removed(self) -> None:
        removed, self._directory.removed = self._directory.removed, 0
        if removed:
            self._log.info(
                "gunicorn_prom_hooks: application metrics: %d files of processes that are gone removed from %s",
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
        errors: where failures end.
        fork_lock: held while the exporter's thread logs; None: there are no forks.
    """
    cfg, log = server.cfg, server.log
    # Both may have come since ``install`` was called.
    named = named_directory(cfg.env) or named_directory()
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
    directory: Directory | None = None
    try:
        if path:
            # The arbiter itself learns of its predecessor only later; gunicorn takes the variable away after that.
            predecessor = cfg.env_orig.get("GUNICORN_PID", "")
            directory = SharedDirectory(path, int(predecessor) if predecessor.isdecimal() else 0, cfg.uid, cfg.gid)
        else:
            directory = PrivateDirectory(cfg.uid, cfg.gid)
        # A private directory is not in the environment: the application, and an exporter of its own that looks for the
        # variable, go on as they would without it.
        if path:
            announce_directory(path)
        return ApplicationMetrics(directory, log, errors, fork_lock, announced=bool(path), named=named)
    except OSError as error:
        if directory is not None:
            directory.close()
        log.error(
            "gunicorn_prom_hooks: no application metrics: directory %s: %s; the server goes on without them",
            path or "for temporary files",
            error.strerror or error,
        )
        if path:
            stand_aside(path)
        return None
