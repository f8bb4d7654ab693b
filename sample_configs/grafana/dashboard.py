"""Writes the dashboard for Grafana to the standard output, as JSON that Grafana imports.

    python sample_configs/grafana/dashboard.py > sample_configs/grafana/gunicorn.json

``make dashboard`` does that. It needs ``grafana-foundation-sdk``.
"""

from __future__ import annotations

import json

from building import variable, with_all
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, Row
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard
from queries import SERVERS
from rows import application, exits, exporter, latency, overview, requests, saturation, workers

ROWS = (overview, requests, latency, saturation, workers, exits, application, exporter)
DESCRIPTION = (
    "Metrics of gunicorn servers with gunicorn_prom_hooks. Each series links to the status page of its server. "
    "The link works where the browser can reach the metrics port."
)
OWN = f'{{{SERVERS}, __name__!="", __name__!~"(gunicorn|process|python|scrape)_.*|up|ALERTS.*|.*:.*|.*_created"}}'
"""Selects the series of the application."""


def build() -> dashboard.Dashboard:
    """Return the dashboard. Rows and panels are numbered from 1 on."""
    board = Dashboard("gunicorn").uid("gunicorn-prom-hooks").description(DESCRIPTION).tags(["gunicorn"])
    board.time("now-1h", "now").refresh("30s").timezone("browser").tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
    board.with_variable(DatasourceVariable("datasource").label("data source").type("prometheus"))
    info = "gunicorn_build_info"
    for made in (
        with_all(variable("job", "job", f"label_values({info}, job)", "Jobs of the scrape config.")),
        with_all(
            variable(
                "app",
                "app",
                f'label_values({info}{{job=~"$job"}}, app)',
                "Applications: proc_name of gunicorn. The choice limits the instances.",
            )
        ),
        with_all(
            variable(
                "instance",
                "instance",
                f'label_values({info}{{job=~"$job", app=~"$app"}}, instance)',
                "Servers: address and metrics port of each.",
            )
        ),
        with_all(
            variable(
                "endpoint",
                "endpoint",
                f"label_values(gunicorn_requests_total{{{SERVERS}}}, endpoint)",
                "Endpoints of requests. Panels about servers and workers do not depend on it.",
            ),
            ".*",
        ),
        variable(
            "metric",
            "counter",
            f"label_values({OWN}, __name__)",
            "Counters of the application, for the row of application metrics.",
            regex="/.*_(total|count)$/",
        ),
        variable(
            "gauge",
            "gauge",
            f"label_values({OWN}, __name__)",
            "Gauges of the application, for the row of application metrics.",
            regex="/^(?!.*_(total|count|sum|bucket)$).*$/",
        ),
    ):
        board.with_variable(made)
    for row in ROWS:
        board.with_row(Row(row.TITLE))
        for panel in row.panels():
            board.with_panel(panel)
    built = board.build()
    for number, panel_or_row in enumerate(built.panels or (), 1):
        panel_or_row.id_val = number
    return built


if __name__ == "__main__":
    print(json.dumps(build(), cls=JSONEncoder, indent=2, sort_keys=True))
