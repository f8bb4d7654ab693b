"""Whether servers are full, and what waits."""

from __future__ import annotations

from building import AnyPanel, Query, graph
from queries import CAPACITY_USED, LOOP_BUSY, SERVERS, per_server, quantile

TITLE = "Saturation"


def panels() -> list[AnyPanel]:
    """Return the panels of this row."""
    backlog, limit = "gunicorn_listener_backlog", "gunicorn_listener_backlog_limit"
    unread = "gunicorn_listener_waiting_connections"
    return [
        graph(
            "Utilization of threads or connections",
            "percentunit",
            "The used part of what limits the server: threads (sync, gthread) or connections (gevent). At 100 % "
            "requests wait. With high CPU usage add machines. With low CPU usage the workers wait for something else: "
            "add threads, or make that faster. Event loops without a limit have no line here.",
            Query(CAPACITY_USED),
            limits=(0.7, 0.9),
        ),
        graph(
            "Utilization of event loops",
            "percentunit",
            "The share of time in which an event waits more than 5 ms for the event loop (asgi, uvicorn, tornado, "
            "gevent). At 100 % the loop is blocked. With low CPU usage a synchronous call blocks it: move the call to "
            "a thread.",
            Query(LOOP_BUSY),
            limits=(0.7, 0.9),
        ),
        graph(
            "Requests in progress",
            "short",
            "Requests that the workers process, and how many they can process at a time. Event loops without a limit "
            "have no capacity.",
            Query(f"{per_server('sum')} (gunicorn_requests_in_progress{{{SERVERS}}})", "in progress {{instance}}"),
            Query(f"{per_server('sum')} (gunicorn_requests_capacity{{{SERVERS}}})", "capacity {{instance}}"),
        ),
        graph(
            "Waiting connections",
            "short",
            "Connections in the accept queue, and connections that a worker has accepted without reading the request. "
            "Above 0 for some time, requests wait for a thread or an event loop. Uploads in progress count as well.",
            Query(f"{per_server('sum', 'listener')} ({backlog}{{{SERVERS}}})", "in queue {{listener}} {{instance}}"),
            Query(f"{per_server('sum', 'listener')} ({unread}{{{SERVERS}}})", "in workers {{listener}} {{instance}}"),
        ),
        graph(
            "Used part of the accept queue",
            "percentunit",
            "The accept queue divided by its limit. At 100 % the kernel refuses connections or leaves them hanging. "
            "A higher limit only makes clients wait for longer: add workers or threads.",
            Query(
                f"{per_server('max', 'listener')} ({backlog}{{{SERVERS}}} / {limit}{{{SERVERS}}})",
                "{{listener}} {{instance}}",
            ),
            limits=(0.5, 0.9),
            width=8,
        ),
        graph(
            "Time in the queue",
            "s",
            "The 95th percentile of the time from the proxy to the start in a worker. It has data only if the proxy "
            "sends X-Request-Start. Clients wait this long in addition to the request duration.",
            Query(quantile(0.95, "gunicorn_request_queue_seconds")),
            limits=(0.1, 1),
            width=8,
        ),
        graph(
            "Event loop lag by worker",
            "s",
            "The 99th percentile of the delay of events, and the time for which the loop has been blocked, of the five "
            "worst workers of each kind. A value of seconds shows a synchronous call: py-spy dump shows it.",
            Query(
                f"topk(5, {quantile(0.99, 'gunicorn_worker_event_loop_lag_seconds', 'worker_id')})",
                "lag {{worker_id}} {{instance}}",
            ),
            Query(
                f"topk(5, gunicorn_worker_event_loop_blocked_seconds{{{SERVERS}}})",
                "blocked {{worker_id}} {{instance}}",
            ),
            limits=(0.1, 1),
            width=8,
        ),
    ]
