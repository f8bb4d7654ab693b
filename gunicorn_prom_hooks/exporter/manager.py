"""The exporter through every reload: started, moved to another address, given other settings, stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..collectors import MetricsPage
from ..concurrency import ForkLock
from ..errors import ErrorReporter
from ..model.server_snapshot import SnapshotSource
from ..settings import Settings
from .auth import Credentials
from .renderer import Renderer
from .server import Exporter, ExporterConfig
from .tls import BadCertificate, server_context

if TYPE_CHECKING:
    from ..app_metrics.setup import ApplicationMetrics
    from ..status import StatusPage


class ExporterManager:
    """The exporter of a master process. Its collectors outlive a reload: they remember what must not decrease.

    Args:
        source: takes a snapshot of the server, and tells whether the server can answer requests.
        fork_lock: held while anything is logged, and while a client is accepted.
        errors: reports failures.
        log: logger of the server.
        app_metrics: the application's own metrics; None if there are none.
    """

    def __init__(
        self,
        source: SnapshotSource,
        fork_lock: ForkLock,
        errors: ErrorReporter,
        log: Any,
        app_metrics: ApplicationMetrics | None = None,
    ) -> None:
        self._source = source
        self._fork_lock = fork_lock
        self._errors = errors
        self._log = log
        collect = None if app_metrics is None else app_metrics.collect
        self._page = MetricsPage(source.take_snapshot, errors, collect, fork_lock, log.warning)
        self._status_page: StatusPage | None = None
        self.exporter: Exporter | None = None
        """The current exporter. A forked child leaves it here: to free it is to copy all the memory it lies in."""
        self._ending: list[Exporter] = []
        """Exporters that were stopped and whose thread has not ended yet."""
        self._settings: Settings | None = None

    def apply(self, settings: Settings) -> None:
        """Serve as the settings say, at another address if need be. Log what cannot be served."""
        previous = self.exporter
        config = self._config(settings, None if previous is None else previous.config)
        if config is None:
            self.close()
            return
        if previous is not None:
            previous.config = config
        current = self._settings
        if current is not None and (current.address, current.port) == (settings.address, settings.port):
            self._settings = settings
            self.restart_if_stopped()
            return
        address, port, log = settings.address, settings.port, self._log
        try:
            exporter = Exporter(config, self._source.is_ready, self._fork_lock, self._errors, log, address, port)
        except OSError as error:
            self._errors.count("exporter")
            log.error("gunicorn_prom_hooks: address %r cannot be used: %s; a reload tries again", address, error)
            return
        self.close()
        self._settings, self.exporter = settings, exporter
        exporter.start()
        self._warn_if_exposed(exporter)

    def restart_if_stopped(self) -> None:
        """Start the exporter's thread again if it could not start, or has ended."""
        if self.exporter is not None:
            self.exporter.start()

    def close(self) -> None:
        """Stop the exporter."""
        exporter, self.exporter, self._settings = self.exporter, None, None
        self._ending = [each for each in self._ending if each.is_running]
        if exporter is not None:
            exporter.stop()
            if exporter.is_running:
                self._ending.append(exporter)

    def close_in_child(self) -> None:
        """Close the sockets of all exporters in a forked child. See ``Exporter.close_in_child``."""
        if self.exporter is not None:
            self.exporter.close_in_child()
        for exporter in self._ending:
            exporter.close_in_child()

    def _config(self, settings: Settings, previous: ExporterConfig | None) -> ExporterConfig | None:
        """Return the exporter's configuration; None if the certificate cannot be used: never plain text instead.

        A certificate that cannot be used leaves the previous one in place, unless the previous one requires less of
        a client than the settings do.
        """
        context = None
        if settings.certfile:
            try:
                context = server_context(settings.certfile, settings.keyfile, settings.client_cafile)
            except BadCertificate as error:
                self._errors.count("exporter")
                old = None if previous is None else previous.context
                if old is None or (settings.client_cafile and not old.verify_mode):
                    self._log.error("gunicorn_prom_hooks: no metrics: %s; a reload tries again", error)
                    return None
                self._log.error("gunicorn_prom_hooks: %s; the previous certificate stays in use", error)
                context = old
        status_page = self._load_status_page() if settings.status_page else None
        renderer = Renderer(self._page, status_page, self._fork_lock, self._errors)
        return ExporterConfig(Credentials(settings.token, settings.basic_auth), context, renderer)

    def _warn_if_exposed(self, exporter: Exporter) -> None:
        if exporter.config.is_unprotected and not exporter.is_local:
            self._log.warning(
                "gunicorn_prom_hooks: any client that can reach %s can read the metrics: set token, basic_auth or "
                "certfile, or keep the port behind a firewall",
                exporter.where,
            )

    def _load_status_page(self) -> StatusPage | None:
        """Return the status page, the same one for all exporters; None if it fails to load."""
        if self._status_page is None:
            try:
                # Imported late: a server without a status page does not need its modules.
                from .. import status

                self._status_page = status.StatusPage(self._status_part_failed)
            except Exception:  # noqa: BLE001 - metrics without a status page are better than none
                self._errors.report("status")
        return self._status_page

    def _status_part_failed(self) -> None:
        with self._fork_lock.hold():
            self._errors.report("status")
