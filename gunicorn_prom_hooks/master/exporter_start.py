"""Start and stop of the exporter of a master, as settings and reloads want it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..concurrency import ForkLock
from ..errors import ErrorReporter
from ..model.server_snapshot import SnapshotSource
from ..settings import Settings

if TYPE_CHECKING:
    from ..app_metrics.setup import ApplicationMetrics
    from ..exporter.manager import ExporterManager


class ExporterStarter:
    """Has the exporter started with the first settings that name a port. It is called by gunicorn's thread alone.

    Args:
        source: takes the snapshot for a scrape.
        fork_lock: of the master.
        errors: counts internal failures.
    """

    def __init__(self, source: SnapshotSource, fork_lock: ForkLock, errors: ErrorReporter) -> None:
        self._source = source
        self._fork_lock = fork_lock
        self._errors = errors
        self._settings: Settings | None = None
        """The settings that the exporter was last given."""
        self.manager: ExporterManager | None = None
        """None until there were settings with a port."""

    def update(
        self, settings: Settings, log: Any, app_metrics: ApplicationMetrics | None, *, read_files: bool = False
    ) -> None:
        """Start the exporter, or give it these settings. It moves to another address if they name one.

        Args:
            settings: the current ones.
            log: gunicorn's.
            app_metrics: the application's own metrics; None if there are none.
            read_files: also with unchanged settings read what is outside of them: host names, certificate files.
        """
        if settings is self._settings and not read_files:
            if self.manager is not None:
                self.manager.restart_if_stopped()
            return
        self._settings = settings
        if not settings.port:
            self.close()
            return
        if self.manager is None:
            # Late: importing the package must not import prometheus_client, which reads the environment only once.
            from ..exporter.manager import ExporterManager
            from . import snapshot  # noqa: F401 - so that no scrape imports it with the lock held

            self.manager = ExporterManager(self._source, self._fork_lock, self._errors, log, app_metrics)
        self.manager.apply(settings)

    def free_port_for(self, addresses: Iterable[object]) -> None:
        """Stop the exporter if gunicorn is about to bind its port, as after a reload. ``update`` starts it again.

        Args:
            addresses: as gunicorn's ``cfg.address`` has them: a host and a port, a path, or a descriptor.
        """
        port = None if self._settings is None else self._settings.port
        if port and any(isinstance(address, tuple) and address[1] == port for address in addresses):
            self.close()

    def close(self) -> None:
        """Stop the exporter."""
        if self.manager is not None:
            self.manager.close()
