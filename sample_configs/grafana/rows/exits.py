"""Why workers exited, and which requests ended with them."""

from __future__ import annotations

from building import AnyPanel, Column, Query, graph, table
from queries import events

TITLE = "Worker exits and killed requests"
EXITS = "gunicorn_worker_exits_total"
KILLED = "gunicorn_killed_requests_total"


def panels() -> list[AnyPanel]:
    """Return the panels of this row."""
    window = "$__rate_interval"
    return [
        graph(
            "Worker exits by reason",
            "short",
            "Worker exits, counted in each interval of the graph. max_requests, reload, scale_down and shutdown were "
            "requested. For timeout the stack is in gunicorn's error log. For oom compare the memory of the worker "
            "with the limit. For signal the detail is its name.",
            Query(events(EXITS, window, "reason, detail"), "{{reason}} {{detail}} {{instance}}"),
            bars=True,
        ),
        graph(
            "Killed requests",
            "short",
            "Requests that were in progress when their worker exited, counted in each interval of the graph. The error "
            "log has the whole path of each.",
            Query(
                events(KILLED, window, "method, endpoint, reason"),
                "{{method}} {{endpoint}} {{reason}} {{instance}}",
            ),
            bars=True,
        ),
        table(
            "Worker exits in the time range",
            "Worker exits by reason and detail, the name of a signal or an exit code. What to do for each reason is in "
            "docs/operations.md.",
            [Column("exits", events(EXITS, "$__range", "reason, detail"), "short")],
            width=12,
        ),
        table(
            "Killed requests in the time range",
            "Requests that ended with their worker. An endpoint that is here again and again crashes its worker or "
            "exceeds the timeout: find its path in the error log.",
            [Column("requests", events(KILLED, "$__range", "method, endpoint, reason"), "short")],
            width=12,
        ),
    ]
