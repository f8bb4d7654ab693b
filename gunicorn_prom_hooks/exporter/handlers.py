"""From what clients want to what they get: metrics encoded and compressed, parts of the status page."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from http import HTTPStatus
from typing import Final, Protocol

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ..collectors import MetricsPage
from ..errors import ErrorReporter
from ..model.response import Resource
from ..model.server_snapshot import ServerSnapshot
from .http import ENCODERS, METRICS, RenderKey, Reply, error_response, not_found, respond

_VARY: Final = ("Vary", "Accept, Accept-Encoding")
_COMPRESSED: Final = ("Content-Encoding", "gzip")


class Site(Protocol):
    """The status page."""

    @property
    def paths(self) -> Collection[str]:
        """All there are."""

    def resource(self, path: str, look: Callable[[], ServerSnapshot]) -> Resource | None:
        """What is at this path; None if nothing is. ``look`` takes a view of the server."""


class Pages:
    """Renders what is wished for. What several wishes have in common is done once.

    Args:
        page: the metrics.
        site: the status page, if there is one.
        hold: held while anything is logged.
        errors: where failures end.
    """

    def __init__(
        self,
        page: MetricsPage,
        site: Site | None,
        hold: Callable[[], AbstractContextManager[None]],
        errors: ErrorReporter,
    ) -> None:
        self._page = page
        self._site = site
        self._hold = hold
        self._errors = errors

    @property
    def paths(self) -> Collection[str]:
        """Where the status page and its files are; empty if there is none."""
        return () if self._site is None else self._site.paths

    def render(self, keys: Iterable[RenderKey]) -> dict[RenderKey, Reply]:
        """The reply to each wish, all of the same moment. Never raises."""
        metrics = _Metrics(self._collect)
        return {key: self._one(key, metrics) for key in keys}

    def _one(self, key: RenderKey, metrics: _Metrics) -> Reply:
        try:
            return metrics.reply(key) if key.path == METRICS else self._resource(key)
        except Exception:  # noqa: BLE001 - one bad scrape must not cost the others
            with self._hold():
                self._errors.report("scrape")
            return error_response(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _collect(self) -> list[Metric]:
        return list(self._page.collect_from(self._page.take_snapshot()))

    def _resource(self, key: RenderKey) -> Reply:
        site = self._site
        if site is None:
            return not_found(status_page=False)
        found = self._page.run_in_time("status", lambda: site.resource(key.path, self._page.take_snapshot))
        if found is None:
            return not_found(status_page=True)
        body, headers = found.body, list(found.headers.items())
        if key.gzip and not any(name.lower() == "content-encoding" for name in found.headers):
            body, headers = gzip.compress(body, compresslevel=1), [*headers, _COMPRESSED]
        return respond(HTTPStatus.OK, found.content_type, body, ("Vary", "Accept-Encoding"), *headers)


class _Metrics(Collector):
    """The metrics of one moment, collected when they are first asked for, encoded once per format."""

    def __init__(self, collect: Callable[[], list[Metric]]) -> None:
        self._collect = collect
        self._families: list[Metric] | None = None
        self._texts: dict[str, bytes] = {}

    def collect(self) -> list[Metric]:
        """The families."""
        if self._families is None:
            self._families = self._collect()
        return self._families

    def reply(self, key: RenderKey) -> Reply:
        """The page in one format."""
        text = self._texts.get(key.content_type)
        if text is None:
            text = self._texts[key.content_type] = ENCODERS[key.content_type](self)
        if key.gzip:
            compressed = gzip.compress(text, compresslevel=1, mtime=0)  # no clock: it may show anything
            return respond(HTTPStatus.OK, key.content_type, compressed, _VARY, _COMPRESSED)
        return respond(HTTPStatus.OK, key.content_type, text, _VARY)
