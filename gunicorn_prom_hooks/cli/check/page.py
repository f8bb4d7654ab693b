"""A page of metrics: parsed, searched, and compared with what this package exposes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from ..findings import Finding, note

FAMILIES: Final = (
    *("gunicorn_requests", "gunicorn_request_duration_seconds", "gunicorn_request_queue_seconds"),
    *("gunicorn_requests_in_progress", "gunicorn_failed_requests", "gunicorn_invalid_requests"),
    *("gunicorn_killed_requests", "gunicorn_worker_requests", "gunicorn_worker_request_duration_seconds"),
    *("gunicorn_worker_busy_seconds", "gunicorn_worker_requests_in_progress", "gunicorn_worker_oldest_request_seconds"),
    *("gunicorn_worker_failed_requests", "gunicorn_worker_error_handling", "gunicorn_worker_memory_bytes"),
    *("gunicorn_worker_cpu_percent", "gunicorn_worker_cpu_seconds", "gunicorn_worker_open_fds"),
    *("gunicorn_worker_uptime_seconds", "gunicorn_worker_heartbeat_age_seconds", "gunicorn_worker_state"),
    *("gunicorn_worker_state_timestamp_seconds", "gunicorn_worker_info", "gunicorn_workers", "gunicorn_workers_target"),
    *("gunicorn_worker_timeout_seconds", "gunicorn_worker_exits", "gunicorn_master_worker_restart"),
    *("gunicorn_worker_boot_seconds", "gunicorn_worker_lifetime_seconds", "gunicorn_reloads", "gunicorn_log_messages"),
    *("gunicorn_build_info", "gunicorn_exporter_collector_duration_seconds", "gunicorn_exporter_collector_success"),
    *("gunicorn_exporter_errors", "gunicorn_exporter_overflowed_labels"),
)
"""Families of every page, whatever the system, the worker class and the settings are."""
MAX_NAMES: Final = 5
"""Names that a line lists."""
MAX_SERIES: Final = 50_000
"""Series beyond which a page is called large."""


class Page:
    """A parsed page.

    Args:
        text: of the page.
        openmetrics: whether it is in the OpenMetrics format, or else in Prometheus' text format.

    Raises:
        ValueError: it is not in that format.
    """

    def __init__(self, text: str, *, openmetrics: bool) -> None:
        try:
            parse = parse_openmetrics if openmetrics else parse_text
            self.families: list[Metric] = list(parse(text))
        except Exception as error:  # the parsers raise ValueError, and other kinds on input that they did not expect
            raise ValueError(str(error) or type(error).__name__) from error

    @property
    def series(self) -> int:
        """Return the number of series."""
        return sum(len(family.samples) for family in self.families)

    @property
    def is_of_this_package(self) -> bool:
        """Return whether it is a page of this package."""
        return any(family.name == "gunicorn_build_info" for family in self.families)

    def values(self, name: str) -> Iterator[tuple[Mapping[str, str], float]]:
        """Yield labels and value of each sample of that name."""
        for family in self.families:
            for sample in family.samples:
                if sample.name == name:
                    yield sample.labels, sample.value

    def labels_of(self, name: str) -> Mapping[str, str]:
        """Return the labels of the first sample of that name; empty if there is none."""
        return next((labels for labels, _ in self.values(name)), {})


def check_families(page: Page) -> Iterator[Finding]:
    """Yield a finding for missing families, and for each collector that has failed."""
    names = {family.name for family in page.families}
    failed = [
        labels.get("collector", "") for labels, value in page.values("gunicorn_exporter_collector_success") if not value
    ]
    for collector in failed:
        yield Finding(
            f"the collector {collector} has failed: its metrics are missing from this scrape",
            "The error log of gunicorn says why",
        )
    missing = [name for name in FAMILIES if name not in names]
    if missing:
        yield Finding(
            f"{_counted(len(missing), 'family', 'families')} of this package missing: {_listed(missing)}",
            "The failed collectors explain it"
            if failed
            else "Look for a proxy that filters the page, or for another version of the package",
        )


def check_counters(page: Page) -> Iterator[Finding]:
    """Yield a finding for each kind of internal failure, and for each label with too many values."""
    for labels, value in page.values("gunicorn_exporter_errors_total"):
        if value > 0:
            where = labels.get("where", "")
            yield Finding(
                f"gunicorn_exporter_errors_total of where={where!r} is {value:,.0f}: a part of the package has failed",
                "The `endpoint` callable of the config raises; the error log of gunicorn has the traceback"
                if where == "endpoint"
                else "The error log of gunicorn has the reason",
            )
    for labels, value in page.values("gunicorn_exporter_overflowed_labels_total"):
        if value > 0:
            label = labels.get("label", "")
            yield Finding(
                f"the label {label} has too many values: {value:,.0f} times a value became <other>",
                "Give install() an `endpoint` callable, or a larger `max_endpoints`"
                if label == "endpoint"
                else "See gunicorn_exporter_overflowed_labels in docs/metrics.md",
            )


def lint(page: Page) -> Iterator[Finding]:
    """Yield a finding for what Prometheus refuses or people cannot read: series that come twice, and missing help."""
    names = Counter(family.name for family in page.families)
    twice = [name for name, times in names.items() if times > 1]
    if twice:
        yield Finding(f"families that come twice: {_listed(twice)}", "Rename the application's metrics of these names")
    series = Counter(
        (sample.name, frozenset(sample.labels.items()))
        for family in page.families
        if names[family.name] == 1
        for sample in family.samples
    )
    repeated = [name for (name, _), times in series.items() if times > 1]
    if repeated:
        yield Finding(
            f"series that come twice: {_listed(dict.fromkeys(repeated))}",
            "Prometheus takes one of them; remove the other one",
        )
    without_help = [family.name for family in page.families if not family.documentation.strip()]
    if without_help:
        yield note(f"families without a help text: {_listed(without_help)}", "Give the metrics a description")
    if page.series > MAX_SERIES:
        yield note(
            f"the page has {page.series:,} series",
            "Lower `max_endpoints`, give fewer `duration_buckets`, or set `size_histograms=False`",
        )


def _listed(names: Mapping[str, None] | list[str]) -> str:
    shown = ", ".join(list(names)[:MAX_NAMES])
    return shown if len(names) <= MAX_NAMES else f"{shown} and {len(names) - MAX_NAMES} more"


def _counted(count: int, one: str, many: str) -> str:
    return f"1 {one}" if count == 1 else f"{count:,} {many}"
