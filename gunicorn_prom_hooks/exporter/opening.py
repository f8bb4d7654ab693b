"""What the settings mean for the exporter: who gets what, and how."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from ..collectors import Page
from ..errors import ErrorReporter
from ..model.server_snapshot import SnapshotSource
from ..settings import Settings
from .auth import Credentials
from .handlers import Pages, Site
from .server import Exporter, ExporterConfig
from .tls import BadCertificate, server_context

if TYPE_CHECKING:
    from ..app_metrics.setup import ApplicationMetrics


class Opening:
    """Makes ``ExporterConfig`` of settings, at the start and at every reload.

    Args:
        source: takes a snapshot of the server; called without ``hold``, which it takes itself.
        hold: held while anything is logged.
        errors: where failures end.
        log: gunicorn's logger.
        app_metrics: the application's own metrics; None if there are none.
    """

    def __init__(
        self,
        source: SnapshotSource,
        hold: Callable[[], AbstractContextManager[None]],
        errors: ErrorReporter,
        log: Any,
        app_metrics: ApplicationMetrics | None,
    ) -> None:
        self._hold = hold
        self._errors = errors
        self._log = log
        collect = None if app_metrics is None else app_metrics.collect
        self._page = Page(source.take_snapshot, errors, collect, hold, log.warning)
        self._sites: list[Site] = []

    def access(self, settings: Settings, before: ExporterConfig | None) -> ExporterConfig | None:
        """Who gets what from now on; None if nobody can, since the certificate is of no use: never plain text instead.

        Args:
            settings: ours.
            before: what has held so far. A certificate of no use leaves the one from before in place, unless that
                asks for less than the settings do.
        """
        context = None
        if settings.certfile:
            try:
                context = server_context(settings.certfile, settings.keyfile, settings.client_cafile)
            except BadCertificate as error:
                old = None if before is None else before.context
                if old is None or (settings.client_cafile and not old.verify_mode):
                    self._log.error("gunicorn_prom_hooks: no metrics: %s; a reload tries again", error)
                    return None
                self._log.error("gunicorn_prom_hooks: %s; the certificate from before stays", error)
                context = old
        site = self._site() if settings.status_page else None
        pages = Pages(self._page, site, self._hold, self._errors)
        return ExporterConfig(Credentials(settings.token, settings.basic_auth), context, pages)

    def warn(self, exporter: Exporter) -> None:
        """Says so where the port is open to others."""
        if exporter.access.is_unprotected and not exporter.is_local:
            self._log.warning(
                "gunicorn_prom_hooks: whoever can reach %s can read the metrics: set token, basic_auth or certfile, or "
                "keep the port behind a firewall",
                exporter.where,
            )

    def _site(self) -> Site | None:
        """The status page, one for all exporters."""
        if not self._sites:
            try:
                # Late: only who has a status page needs what makes it.
                from .. import status

                self._sites.append(status.Site())
            except Exception:  # noqa: BLE001 - metrics without a status page are better than none
                self._errors.report("status")
                return None
        return self._sites[0]
