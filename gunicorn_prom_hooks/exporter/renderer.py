"""Rendering of responses: metrics, encoded and compressed, and the files of the status page."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Collection, Iterable
from copy import copy
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
OPENMETRICS: Final = "application/openmetrics-text"
"""The beginning of the content types of the OpenMetrics format."""
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

    def _collect(self) -> tuple[list[Metric], bool]:
        snapshot = self._page.take_snapshot()
        return list(self._page.collect_from(snapshot)), snapshot.options.created_timestamps

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


class _Families(Collector):
    """Metric families in the form in which prometheus_client's encoders take them."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        """Return the families."""
        return self._families

    def without_created(self) -> _Families:
        """Return the families without ``_created`` samples: only the OpenMetrics format says what they are."""
        families = []
        for family in self._families:
            kept = copy(family)
            kept.samples = [sample for sample in family.samples if sample.name != f"{family.name}_created"]
            families.append(kept)
        return _Families(families)


class _Metrics:
    """The metrics of one rendering, collected on first use, encoded once per format.

    Args:
        collect: returns the families, and whether they have ``_created`` samples.
    """

    def __init__(self, collect: Callable[[], tuple[list[Metric], bool]]) -> None:
        self._collect = collect
        self._collected: tuple[list[Metric], bool] | None = None
        self._texts: dict[str, bytes] = {}

    def reply(self, key: RenderKey) -> Reply:
        """Return the metrics in the format of ``key``."""
        text = self._texts.get(key.content_type)
        if text is None:
            text = self._texts[key.content_type] = self._encode(key.content_type)
        if key.gzip:
            compressed = gzip.compress(text, compresslevel=1, mtime=0)  # no time: it may be out of gzip's range
            return respond(HTTPStatus.OK, key.content_type, compressed, _VARY, _COMPRESSED)
        return respond(HTTPStatus.OK, key.content_type, text, _VARY)

    def _encode(self, content_type: str) -> bytes:
        if self._collected is None:
            self._collected = self._collect()
        families, have_created = _Families(self._collected[0]), self._collected[1]
        if have_created and not content_type.startswith(OPENMETRICS):
            families = families.without_created()
        return ENCODERS[content_type](families)
