"""The first row: what all chosen servers do together, and a table with a line for each of them."""

from __future__ import annotations

from building import AnyPanel, Column, stat, table
from queries import ENDPOINTS, FULL, SERVERS, UNEXPECTED, WAITING, per_server, quantile, rate

TITLE = "Overview"
FAILED = "gunicorn_failed_requests_total"
REQUESTS = "gunicorn_requests_total"
DURATION = "gunicorn_request_duration_seconds"


def panels() -> list[AnyPanel]:
    """Return the panels of this row."""
    requests = f"sum ({rate(REQUESTS, where=ENDPOINTS)})"
    exits = f"{per_server('sum')} (gunicorn_worker_exits_total{{{SERVERS}, {UNEXPECTED}}})"
    return [
        stat(
            "Servers down",
            "short",
            "The number of metrics ports that do not answer. Check whether gunicorn runs, and whether the scrape "
            "config has the right port and credentials.",
            f"sum (1 - up{{{SERVERS}}})",
            (1, 1),
        ),
        stat(
            "Requests",
            "reqps",
            "Answered requests per second of all chosen servers and endpoints. Compare a sudden change with the row "
            "of worker exits and with the proxy's log.",
            requests,
            decimals=1,
        ),
        stat(
            "Failed requests",
            "percentunit",
            "The share of requests that ended with an exception or a 5xx. The panel of failures by exception has the "
            "endpoints and the class names.",
            f"sum ({rate(FAILED, where=ENDPOINTS)}) / ({requests} > 0)",
            (0.01, 0.05),
            decimals=2,
        ),
        stat(
            "Slowest server",
            "s",
            "The 95th percentile of the request duration, of the server where it is the highest. The row of latency "
            "has the endpoints.",
            f"max ({quantile(0.95, DURATION, where=ENDPOINTS)})",
            (0.5, 2),
            decimals=2,
        ),
        stat(
            "Fullest server",
            "percentunit",
            "The utilization of the server where it is the highest: of its threads or connections, or of its event "
            "loop. At 100 % requests wait. The row of saturation says for what.",
            f"max ({FULL})",
            (0.7, 0.9),
        ),
        stat(
            "Unexpected worker exits",
            "short",
            "Workers that exited within the last hour and that the master had not asked to exit. The row of worker "
            "exits has the reasons, and gunicorn's error log has the requests.",
            f"sum (increase({exits}[1h:]))",
            (1, 3),
        ),
        table(
            "Servers",
            "One line per server, for the end of the time range. The link of each instance opens the status page, "
            "which lists the requests in progress. It works where the browser can reach the metrics port. That port "
            "is on the loopback address by default. With a certificate on that port, change http to https in the link.",
            [
                Column(
                    "build",
                    f"{per_server('sum', 'app, worker_class, gunicorn')} (gunicorn_build_info{{{SERVERS}}})",
                    "short",
                    hidden=True,
                ),
                Column(
                    "running workers",
                    f'{per_server("sum")} (gunicorn_workers{{{SERVERS}, state="running"}})',
                    "short",
                ),
                Column("target", f"{per_server('sum')} (gunicorn_workers_target{{{SERVERS}}})", "short"),
                Column("requests", rate(REQUESTS, where=ENDPOINTS), "reqps"),
                Column(
                    "failed",
                    f"{rate(FAILED, where=ENDPOINTS)} / ({rate(REQUESTS, where=ENDPOINTS)} > 0)",
                    "percentunit",
                    (0.01, 0.05),
                ),
                Column("p95", quantile(0.95, DURATION, where=ENDPOINTS), "s", (0.5, 2)),
                Column("utilization", FULL, "percentunit", (0.7, 0.9)),
                Column("waiting connections", WAITING, "short", (1, 10)),
            ],
            height=6,
        ),
    ]
