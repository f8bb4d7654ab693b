"""The processes: workers and the master."""

from __future__ import annotations

from building import AnyPanel, Query, graph
from queries import SERVERS, events, per_server, rate

TITLE = "Workers"
BY_WORKER = "{{worker_id}} {{instance}}"


def panels() -> list[AnyPanel]:
    """Return the panels of this row."""
    timeout = f"(gunicorn_worker_timeout_seconds{{{SERVERS}}} > 0)"
    return [
        graph(
            "Workers by state",
            "short",
            "Live workers by state, and the number that the master maintains. Fewer running workers than the target "
            "for more than a moment: workers exit or do not start. Old workers stay in stopping while they process a "
            "request.",
            Query(f"{per_server('sum', 'state')} (gunicorn_workers{{{SERVERS}}})", "{{state}} {{instance}}"),
            Query(f"{per_server('sum')} (gunicorn_workers_target{{{SERVERS}}})", "target {{instance}}"),
        ),
        graph(
            "Memory",
            "bytes",
            "Resident memory of each worker and of the master. Pages that they share are in each value. A worker that "
            "only grows leaks: max_requests replaces it in time.",
            Query(f"{per_server('max', 'worker_id')} (gunicorn_worker_memory_bytes{{{SERVERS}}})", BY_WORKER),
            Query(f"{per_server('max')} (process_resident_memory_bytes{{{SERVERS}}})", "master {{instance}}"),
        ),
        graph(
            "CPU time",
            "percentunit",
            "CPU time of each worker and of the master, in cores. A worker at 100 % uses a whole core: with threads or "
            "an event loop Python cannot use more, so add workers.",
            Query(rate("gunicorn_worker_cpu_seconds_total", "worker_id"), BY_WORKER),
            Query(rate("process_cpu_seconds_total"), "master {{instance}}"),
        ),
        graph(
            "Requests by worker",
            "reqps",
            "Requests per second that each worker answers. A worker far below the others may hang: look at its oldest "
            "request.",
            Query(rate("gunicorn_worker_requests_total", "worker_id"), BY_WORKER),
        ),
        graph(
            "Oldest request",
            "s",
            "The age of the oldest request in progress of each worker. If it only grows, the request hangs. The status "
            "page has its path, and py-spy dump shows where it hangs.",
            Query(f"{per_server('max', 'worker_id')} (gunicorn_worker_oldest_request_seconds{{{SERVERS}}})", BY_WORKER),
            limits=(10, 30),
        ),
        graph(
            "Age of the heartbeat",
            "percentunit",
            "The time since the last heartbeat of each worker, divided by gunicorn's timeout. At 100 % the master "
            "kills the worker. Without a timeout there is no line.",
            Query(
                f"gunicorn_worker_heartbeat_age_seconds{{{SERVERS}}} / on (job, instance) group_left () {timeout}",
                BY_WORKER,
            ),
            limits=(0.5, 0.9),
        ),
        graph(
            "Open files",
            "short",
            "Open file descriptors of each worker. A number that only grows shows connections or files that are not "
            "closed.",
            Query(f"{per_server('max', 'worker_id')} (gunicorn_worker_open_fds{{{SERVERS}}})", BY_WORKER),
            width=8,
        ),
        graph(
            "Boot time",
            "s",
            "The 90th percentile of the time from a worker's fork to its loaded application, where workers have booted "
            "within the last hour. A slow boot makes reloads and replacements slow: preload_app loads the application "
            "once.",
            Query(
                f"histogram_quantile(0.9, {per_server('sum', 'le')} "
                f"(increase({per_server('sum', 'le')} (gunicorn_worker_boot_seconds_bucket{{{SERVERS}}})[1h:]))) >= 0"
            ),
            width=8,
        ),
        graph(
            "Log messages and reloads",
            "short",
            "Messages to gunicorn's error log at the levels warning, error and critical, and reloads of its "
            "configuration, counted from each point of the graph to the next. The log has the reasons.",
            Query(
                events(
                    "gunicorn_log_messages_total",
                    "level",
                    f'{SERVERS}, level=~"warning|error|critical"',
                ),
                "{{level}} {{instance}}",
            ),
            Query(events("gunicorn_reloads_total", zeros=True), "reloads {{instance}}"),
            bars=True,
            width=8,
        ),
    ]
