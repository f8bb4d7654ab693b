"""The exporter itself: whether the values above can be trusted."""

from __future__ import annotations

from building import AnyPanel, Query, graph
from queries import SERVERS, per_server

TITLE = "The exporter"


def panels() -> list[AnyPanel]:
    """Return the panels of this row."""
    return [
        graph(
            "Errors and replaced labels",
            "short",
            "Internal failures of the exporter, and label values replaced by <other>, within the last hour. The log "
            "has the first failure of each minute. For replaced endpoints raise max_endpoints, or return fewer of "
            "them.",
            Query(
                f"increase({per_server('sum')} (gunicorn_exporter_errors_total{{{SERVERS}}})[1h:])",
                "errors {{instance}}",
            ),
            Query(
                f"increase({per_server('sum', 'label')} (gunicorn_exporter_overflowed_labels_total{{{SERVERS}}})[1h:])",
                "replaced {{label}} {{instance}}",
            ),
            limits=(1, 10),
        ),
        graph(
            "Duration of scrapes",
            "s",
            "The time that a scrape takes, and that of the slowest collector. Above half of scrape_timeout, lower "
            "max_endpoints or raise scrape_timeout.",
            Query(f"scrape_duration_seconds{{{SERVERS}}}", "scrape {{instance}}"),
            Query(
                f"{per_server('max')} (gunicorn_exporter_collector_duration_seconds{{{SERVERS}}})",
                "slowest collector {{instance}}",
            ),
            limits=(2, 5),
        ),
    ]
