"""The application's own metrics: prometheus_client's multiprocess mode, set up so that it stays bounded."""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from prometheus_client import values
from prometheus_client.metrics_core import Metric

from ..guard import Guard
from ..pids import exists
from ..settings import MULTIPROC_DIR, Settings, announce_directory, announce_no_directory
from ..transient import below, transient
from .directory import Directory, PrivateDirectory, SharedDirectory
from .early import made_too_early
from .identity import Identity, owner
from .merge import Fate, MultiprocessFiles
from .value import Store, value_class

MAX_TOLD: Final = 1000


class ApplicationMetrics:
    """From here on the application's metrics are kept in files of this directory. In the master, before any fork.

    Args:
        directory: where.
        log: gunicorn's logger.
        guard: where failures end.
        hold: what must be held while the exporter's thread logs.
        announced: whether prometheus_client was told of the directory, since the user has named one.
    """

    def __init__(
        self,
        directory: Directory,
        log: Any,
        guard: Guard,
        hold: Callable[[], AbstractContextManager[None]],
        *,
        announced: bool,
    ) -> None:
        self._hold = hold
        self._directory = directory
        self._log = log
        self._guard = guard
        self._identity = Identity(directory.suffix)
        self._told: set[str] = set()
        self._master = int(directory.suffix[1:]) if directory.suffix else None
        self._inside = below(os.path.realpath(directory.path))
        self._files = MultiprocessFiles(directory.path, self._bad, self._fate)
        # Documented by prometheus_client: a metric's value is made of whatever this is at that moment.
        self._store = Store(directory.path, self._identity, lambda: guard.failed("app_metrics"), announced=announced)
        values.ValueClass = value_class(self._store)
        atexit.register(directory.close)  # a start that fails calls no on_exit

    def collect(self) -> list[Metric]:
        """The application's families, over all its processes. In the exporter's thread, without the master's lock."""
        with transient((self._inside,)):
            return self._files.collect()

    def forking(self) -> None:
        """Before a fork: the directory is there, even if somebody has tidied up meanwhile."""
        self._directory.restore()

    def become_worker(self, slot: int) -> None:
        """This process is now the worker in this slot."""
        self._identity.become_worker(slot)
        self._store.become_worker()

    def worker_gone(self, slot: int, pid: object) -> None:
        """What a worker that is gone had in gauges is no worker's any more: its successor begins anew.

        Counters go on. Live gauges go; the others become those of a process that is gone, and are kept as such.
        """
        for mode in ("all", "sum", "min", "max", "mostrecent"):
            file = Path(self._directory.path, f"gauge_{mode}_{self._identity.of_slot(slot)}.db")
            with contextlib.suppress(OSError):
                file.rename(file.with_name(f"gauge_{mode}_{self._identity.of_process(pid)}.db"))
            live = file.with_name(f"gauge_live{mode}_{self._identity.of_slot(slot)}.db")
            with contextlib.suppress(OSError):
                live.unlink()

    def close(self) -> None:
        """Leaves nothing behind."""
        self._directory.close()

    def _fate(self, identity: str) -> Fate:
        pid, master = owner(identity)
        if master != self._master and master is not None:
            return Fate.LEAVE
        return Fate.KEEP if pid is not None and not exists(pid) else Fate.READ

    def _bad(self, file: str, reason: str) -> None:
        self._guard.counts["app_metrics_file"] += 1
        if file not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(file)
            with self._hold():
                self._log.error("gunicorn_prom_hooks: application metrics: file %r is left out: %s", file, reason)


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
        return None  # there is no page
    early = made_too_early()
    if early:
        log.warning(
            "gunicorn_prom_hooks: metrics made before gunicorn started count in each process for itself: %s; "
            "make them in the application, not in the config file or in what it imports",
            ", ".join(early),
        )
    directory: Directory
    try:
        if path:
            # The arbiter itself learns of its predecessor only later; gunicorn takes the variable away after that.
            predecessor = cfg.env_orig.get("GUNICORN_PID", "")
            directory = SharedDirectory(
                os.path.abspath(path), int(predecessor) if predecessor.isdecimal() else 0, cfg.uid, cfg.gid
            )
        else:
            directory = PrivateDirectory(cfg.uid, cfg.gid)
    except OSError as error:
        log.error(
            "gunicorn_prom_hooks: no application metrics: directory %s: %s; the server goes on without them",
            path or "for temporary files",
            error.strerror or error,
        )
        # Where the user has set the variable, prometheus_client would write there all the same.
        announce_no_directory()
        values.ValueClass = values.MutexValue
        return None
    # A private directory is not in the environment: the application, and an exporter of its own that looks for the
    # variable, go on as they would without it.
    if path:
        announce_directory(directory.path)
    return ApplicationMetrics(directory, log, guard, hold, announced=bool(path))
