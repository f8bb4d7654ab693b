"""Rendering of responses: metrics, encoded and compressed, and the files of the status page."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Collection, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ..collectors import MetricsPage
from ..concurrency import ForkLock
from ..errors import ErrorReporter
from .http import ENCODERS, METRICS, RenderKey, Reply, error_response, not_found, respond

if TYPE_CHECKING:
    from ..status import StatusPage

_VARY: Final = ("Vary", "Accept, Accept-Encoding")
_COMPRESSED: Final = ("Content-Encoding", "gzip")


class Renderer:
    """Renderer of responses. Work that several keys have in common is done once.

    Args:
        page: collects the metrics.
        status_page: the status page; None without one.
        fork_lock: held while anything is logged.
        errors: reports failures.
    """

    def __init__(
        self, page: MetricsPage, status_page: StatusPage | None, fork_lock: ForkLock, errors: ErrorReporter
    ) -> None:
        self._page = page
        self._status_page = status_page
        self._fork_lock = fork_lock
        self._errors = errors

    @property
    def paths(self) -> Collection[str]:
        """Return the paths of the status page and its files; empty without one."""
        return () if self._status_page is None else self._status_page.paths

    def render(self, keys: Iterable[RenderKey]) -> dict[RenderKey, Reply]:
        """Return the reply to each key, all from the same snapshot of the metrics. Never raises."""
        metrics = _Metrics(self._collect)
        return {key: self._one(key, metrics) for key in keys}

    def _one(self, key: RenderKey, metrics: _Metrics) -> Reply:
        try:
            return metrics.reply(key) if key.path == METRICS else self._resource(key)
        except Exception:  # noqa: BLE001 - one failing key must not affect the others
            with self._fork_lock.hold():
                self._errors.report("scrape")
            return error_response(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _collect(self) -> list[Metric]:
        return list(self._page.collect_from(self._page.take_snapshot()))

    def _resource(self, key: RenderKey) -> Reply:
        status_page = self._status_page
        if status_page is None:
            return not_found(status_page=False)
        found = self._page.run_in_time("status", lambda: status_page.resource(key.path, self._page.take_snapshot))
        if found is None:
            return not_found(status_page=True)
        body, headers = found.body, list(found.headers.items())
        if key.gzip and not any(name.lower() == "content-encoding" for name in found.headers):
            body, headers = gzip.compress(body, compresslevel=1), [*headers, _COMPRESSED]
        return respond(HTTPStatus.OK, found.content_type, body, ("Vary", "Accept-Encoding"), *headers)


class _Metrics(Collector):
    """The metrics of one rendering, collected on first use, encoded once per format."""

    def __init__(self, collect: Callable[[], list[Metric]]) -> None:
        self._collect = collect
        self._families: list[Metric] | None = None
        self._texts: dict[str, bytes] = {}

    def collect(self) -> list[Metric]:
        """Return the metric families."""
        if self._families is None:
            self._families = self._collect()
        return self._families

    def reply(self, key: RenderKey) -> Reply:
        """Return the metrics in the format of ``key``."""
        text = self._texts.get(key.content_type)
        if text is None:
            text = self._texts[key.content_type] = ENCODERS[key.content_type](self)
        if key.gzip:
            compressed = gzip.compress(text, compresslevel=1, mtime=0)  # no time: it may be out of gzip's range
            return respond(HTTPStatus.OK, key.content_type, compressed, _VARY, _COMPRESSED)
        return respond(HTTPStatus.OK, key.content_type, text, _VARY)
