"""The overview and the tables of a server, made of its status.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ...status.formatting import count, duration, latency, memory, out_of, percent, rate
from .cells import Line, Row, Style, Table
from .fields import Fields, items, number, section, text, time_of, whole

MAX_LISTENERS: Final = 3
"""Listeners of the overview."""
EXPECTED_EXITS: Final = ("max_requests", "reload", "scale_down", "shutdown")
"""Reasons of exits that are no problem."""


def title(data: Fields) -> str:
    """Return the name of the application and what it runs on."""
    server = section(data, "server")
    return (
        f"{text(server, 'app', 'gunicorn')}: gunicorn {text(server, 'gunicorn')}, {text(server, 'worker_class')} "
        f"workers, up {duration(number(server, 'uptime_seconds'))}"
    )


def overview(data: Fields) -> list[Line]:
    """Return the lines on workers, requests and listening sockets, the most important ones first."""
    server, load, traffic = section(data, "server"), section(data, "load"), section(data, "traffic")
    hanging = whole(load, "hanging")
    failed = whole(traffic, "failed")
    lines = [
        Line(
            f"Workers     {_known(whole(server, 'workers_running'))} of {_known(whole(server, 'workers_target'))} "
            f"running, {_known(whole(server, 'workers_booting'))} booting, "
            f"{_known(whole(server, 'workers_stopping'))} stopping, {_known(whole(server, 'reloads'))} reloads",
            Style.PLAIN if whole(server, "workers_running") else Style.BAD,
        ),
        Line(
            f"In progress {_busy(load)}{f', {hanging} hanging' if hanging else ''}",
            Style.BAD if hanging else Style.PLAIN,
        ),
        Line(
            f"Requests    {count(whole(traffic, 'requests'))}, {_rate(traffic, 'per_second')}; "
            f"failed {count(failed)}, {_rate(traffic, 'failed_per_second')}"
        ),
    ]
    listeners = items(data, "listeners")
    for listener in listeners[:MAX_LISTENERS]:
        queue = whole(listener, "queue")
        waiting = whole(listener, "unread")
        lines.append(
            Line(
                f"Listener    {text(listener, 'name')}: queue {count(queue)} of "
                f"{count(whole(listener, 'queue_limit'))}, waiting in workers {count(waiting)}",
                Style.BAD if queue else Style.PLAIN,
            )
        )
    if len(listeners) > MAX_LISTENERS:
        lines.append(Line(f"            and {len(listeners) - MAX_LISTENERS} more listeners"))
    rates = section(data, "rates")
    seconds = duration(number(rates, "seconds"))
    is_whole = (rates or {}).get("since_start") is True
    period = f"{seconds} since the start" if is_whole else f"the last {seconds}"
    lines.append(Line(f"Period      {period}: rates, CPU and latency are of this time"))
    return lines


def tables(data: Fields) -> dict[str, Table]:
    """Return the tables by the key that chooses each of them."""
    return {"w": workers(data), "e": endpoints(data), "x": exits(data)}


def workers(data: Fields) -> Table:
    """Return the table of live workers, with their requests in progress."""
    found = section(data, "workers")
    timeout = number(section(data, "server"), "timeout_seconds") or 0.0
    listed = items(found, "rows")
    have_loops = any(number(row, "loop_blocked_seconds") is not None for row in listed)
    rows = []
    for row in listed:
        beat = number(row, "heartbeat_age_seconds")
        is_late = beat is not None and 0.0 < timeout < 2.0 * beat
        cells = [
            _known(whole(row, "pid")),
            text(row, "state"),
            _busy(row, " / "),
            count(whole(row, "requests")),
            count(whole(row, "failed")),
            percent(number(row, "cpu_percent")),
            memory(whole(row, "memory_bytes")),
            duration(beat),
            *((duration(number(row, "loop_blocked_seconds")),) if have_loops else ()),
            duration(number(row, "uptime_seconds")),
            text(row, "worker_id"),
        ]
        rows.append(Row(cells, Style.BAD if is_late else Style.PLAIN, _requests(row)))
    loop = ("#Blocked",) if have_loops else ()
    numeric = ("#Busy", "#Requests", "#Failed", "#CPU", "#Memory", "#Heartbeat", *loop, "#Uptime")
    return _table("workers", ("#PID", "State", *numeric, "Worker"), rows, found)


def endpoints(data: Fields) -> Table:
    """Return the table of endpoints, with their latency."""
    found = section(data, "endpoints")
    bounds = number(found, "lowest_bucket_seconds") or 0.0, number(found, "highest_bucket_seconds") or 1e9
    rows = [
        Row(
            [
                text(row, "endpoint"),
                text(row, "method"),
                count(whole(row, "requests")),
                rate(number(row, "per_second") or 0.0),
                count(whole(row, "failed")),
                *(latency(number(row, f"p{share}_seconds"), *bounds) for share in (50, 90, 99)),
            ]
        )
        for row in items(found, "rows")
    ]
    columns = ("Endpoint", "Method", "#Requests", "#Per second", "#Failed", "#p50", "#p90", "#p99")
    return _table("endpoints", columns, rows, found, flexible=0)


def exits(data: Fields) -> Table:
    """Return the table of the latest worker exits, with the requests in progress at each."""
    now = number(data, "time")
    rows = []
    for row in items(data, "exits"):
        time = number(row, "time")
        ago = None if now is None or time is None else max(0.0, now - time)
        reason = text(row, "reason")
        cells = [duration(ago), reason, text(row, "detail", ""), _known(whole(row, "pid")), text(row, "worker_id")]
        is_bad = reason not in EXPECTED_EXITS
        rows.append(Row([*cells, time_of(time)], Style.BAD if is_bad else Style.PLAIN, _requests(row)))
    return _table("exits", ("#Ago", "Reason", "Detail", "#PID", "Worker", "Time"), rows, None)


def _table(name: str, columns: Sequence[str], rows: Sequence[Row], found: Fields | None, flexible: int = -1) -> Table:
    more = whole(found, "more") or 0
    return Table(
        name, columns, rows, len(rows) + more, flexible % len(columns), f"and {more:,} more {name}" if more else ""
    )


def _requests(row: Fields) -> list[Line]:
    found = section(row, "requests_in_progress")
    lines = []
    for request in items(found, "rows"):
        hangs = request.get("hangs") is True
        words = [text(request, "method"), text(request, "path"), duration(number(request, "seconds"))]
        lines.append(Line(" ".join([*words, *(("hangs",) if hangs else ())]), Style.BAD if hangs else Style.PLAIN))
    more = whole(found, "more")
    return [*lines, Line(f"and {more:,} more")] if more else lines


def _busy(fields: Fields | None, between: str = " of ") -> str:
    in_progress = whole(fields, "in_progress")
    return "n/a" if in_progress is None else out_of(in_progress, whole(fields, "capacity"), between)


def _rate(fields: Fields | None, name: str) -> str:
    value = number(fields, name)
    return "n/a" if value is None else f"{rate(value)} per second"


def _known(value: int | None) -> str:
    return "n/a" if value is None else str(value)
