"""Why workers exited, and which requests ended with them."""

from __future__ import annotations

from building import AnyPanel, Column, Query, graph, table
from queries import events, events_in_range

TITLE = "Worker exits and killed requests"
EXITS = "gunicorn_worker_exits_total"
KILLED = "gunicorn_killed_requests_total"


def panels() -> list[AnyPanel]:
    """Return the panels of this row."""
    return [
        graph(
            "Worker exits by reason",
            "short",
            "Worker exits, counted from each point of the graph to the next. max_requests, reload, scale_down and "
            "shutdown were requested. For timeout the stack is in gunicorn's error log. For oom compare the memory of "
            "the worker with the limit. For signal the detail is its name.",
            Query(events(EXITS, "reason, detail"), "{{reason}} {{detail}} {{instance}}"),
            bars=True,
        ),
        graph(
            "Killed requests",
            "short",
            "Requests that were in progress when their worker exited, counted from each point of the graph to the "
            "next. The error log has the whole path of each.",
            Query(
                events(KILLED, "method, endpoint, reason"),
                "{{method}} {{endpoint}} {{reason}} {{instance}}",
            ),
            bars=True,
        ),
        table(
            "Worker exits in the time range",
            "Worker exits by reason and detail, the name of a signal or an exit code. What to do for each reason is in "
            "docs/operations.md.",
            [Column("exits", events_in_range(EXITS, "reason, detail"), "short", decimals=0)],
            width=12,
            height=6,
        ),
        table(
            "Killed requests in the time range",
            "Requests that ended with their worker. An endpoint that is here again and again crashes its worker or "
            "exceeds the timeout: find its path in the error log.",
            [Column("requests", events_in_range(KILLED, "method, endpoint, reason"), "short", decimals=0)],
            width=12,
            height=6,
        ),
    ]
