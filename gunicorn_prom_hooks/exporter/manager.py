"""The exporter through every reload: started, moved to another address, given other settings, ended."""

from __future__ import annotations

from typing import Any

from ..errors import ErrorReporter
from ..fork_lock import ForkLock
from ..model.server_snapshot import SnapshotSource
from ..settings import Settings
from .opening import Opening
from .server import Exporter


class Serving:
    """One per master process.

    Args:
        opening: one for all exporters, since collectors remember what must not go backwards.
        source: tells whether the server can answer requests.
        lock: held while the server is looked at.
        errors: where failures end.
        log: gunicorn's logger.
    """

    def __init__(
        self, opening: Opening, source: SnapshotSource, lock: ForkLock, errors: ErrorReporter, log: Any
    ) -> None:
        self._opening = opening
        self._source = source
        self._lock = lock
        self._errors = errors
        self._log = log
        self._exporter: Exporter | None = None
        self._settings: Settings | None = None

    def serve(self, settings: Settings) -> None:
        """Goes on as the settings say, at another address if need be. What cannot be is logged, and not served."""
        before = self._exporter
        access = self._opening.access(settings, None if before is None else before.access)
        if access is None:
            self.close()
            return
        if before is not None:
            before.access = access
        current = self._settings
        if current is not None and (current.address, current.port) == (settings.address, settings.port):
            self._settings = settings
            self.revive()
            return
        address, log = settings.address, self._log
        try:
            exporter = Exporter(access, self._source.is_ready, self._lock, self._errors, log, address, settings.port)
        except OSError as error:
            log.error("gunicorn_prom_hooks: address %r cannot be used: %s; a reload tries again", address, error)
            return
        self.close()
        self._settings, self._exporter = settings, exporter
        exporter.start()
        self._opening.warn(exporter)

    def revive(self) -> None:
        """Start the exporter's thread again if it could not start, or has died."""
        if self._exporter is not None:
            self._exporter.start()

    def close(self) -> None:
        """Ends the exporter."""
        exporter, self._exporter, self._settings = self._exporter, None, None
        if exporter is not None:
            exporter.stop()

    def close_in_child(self) -> None:
        """Lets go of what a forked child has inherited of the exporter."""
        if self._exporter is not None:
            # It is kept: to free what a child has inherited is to copy all the memory that it lies in.
            self._exporter.close_in_child()
