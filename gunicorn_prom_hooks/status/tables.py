"""The tables of the status page, one function each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..model.exits import ExitReason
from ..shm.schema import LAG_BUCKETS, LAG_PERIOD_SECONDS
from . import page_data
from .formatting import count, duration, latency, machine_moment, memory, moment, out_of, percent, rate
from .html import Element, Node, tag


def listeners(rows: Sequence[page_data.Listener]) -> Node:
    """Return the table of listeners: accept queue, limit, and connections with unread data."""
    heads = _heads("Listener", "#Accept queue", "#Limit", "#Waiting in workers")
    body = [
        tag(
            "tr",
            _head(tag("bdi", row.name)),
            _number(count(row.queue), "warn" if row.queue else None),
            _number(count(row.queue_limit)),
            _number(count(row.unread)),
            data_key=row.name,
        )
        for row in rows
    ]
    return _table("listeners", "Listening sockets and their waiting connections", heads, body)


def workers(found: page_data.Workers, timeout: float) -> Node:
    """Return the table of live workers, with their requests in progress.

    Args:
        found: rows of the table.
        timeout: seconds without a heartbeat after which gunicorn kills a worker; 0: never.
    """
    have_loops = any(row.loop_blocked_seconds is not None for row in found.rows)
    # The first two columns are in sight on a phone, without scrolling sideways.
    heads = _heads(
        *(
            "Worker",
            "Requests in progress, oldest first",
            "#PID",
            "State",
            "#Uptime",
            "#Memory",
            "#CPU",
            "#Heartbeat",
            *(("#Loop lag p99", "#Loop blocked") if have_loops else ()),
            "#Requests",
            "#Failed",
            "#In progress",
        ),
    )
    body = [
        tag(
            "tr",
            _head(row.worker_id),
            tag("td", *_requests(row.requests_in_progress), class_="requests"),
            _number("n/a" if row.pid is None else str(row.pid)),
            tag("td", tag("span", row.state, class_="badge good" if row.state == "running" else "badge busy")),
            _number(duration(row.uptime_seconds)),
            _number(memory(row.memory_bytes)),
            _number(percent(row.cpu_percent)),
            _number(duration(row.heartbeat_age_seconds), _lateness(row.heartbeat_age_seconds, timeout)),
            _number(latency(row.loop_lag_p99_seconds, LAG_BUCKETS[0], LAG_BUCKETS[-1])) if have_loops else None,
            _loop(row.loop_blocked_seconds) if have_loops else None,
            _number(count(row.requests)),
            _number(count(row.failed), "fail" if row.failed else None),
            _number(out_of(row.in_progress, row.capacity, " / ")),
            data_key=str(row.age),
        )
        for row in found.rows
    ]
    return _table("workers", "Live workers, in the order of their slots", heads, body, more=found.more, noun="worker")


def endpoints(found: page_data.Endpoints) -> Node:
    """Return the table of endpoints, with their latency."""
    heads = _heads("Endpoint", "Method", "#Requests", "#Per second", "#Failed", "#p50", "#p90", "#p99")
    body = [
        tag(
            "tr",
            _head(tag("bdi", row.endpoint), "path"),
            tag("td", row.method),
            _number(count(row.requests)),
            _number(rate(row.per_second)),
            _number(count(row.failed), "fail" if row.failed else None),
            *(
                _number(latency(seconds, found.lowest_bucket_seconds, found.highest_bucket_seconds))
                for seconds in (row.p50_seconds, row.p90_seconds, row.p99_seconds)
            ),
            data_key=f"{row.method} {row.endpoint}",
        )
        for row in found.rows
    ]
    return _table("endpoints", "Endpoints by number of requests", heads, body, more=found.more, noun="endpoint")


def exits(found: Sequence[page_data.Exit], now: float) -> Node:
    """Return the table of the latest worker exits, with the requests in progress at each.

    Args:
        found: rows of the table.
        now: unix time in seconds.
    """
    # The first three columns are in sight on a phone, without scrolling sideways.
    heads = _heads("Time", "Reason", "Detail", "Requests in progress at exit", "#Ago", "Worker", "#PID")
    body = [
        tag(
            "tr",
            _head(tag("time", moment(row.time), datetime=machine_moment(row.time))),
            tag("td", tag("span", row.reason, class_="badge" if ExitReason(row.reason).is_expected else "badge bad")),
            tag("td", row.detail),
            tag("td", *_requests(row.requests_in_progress), class_="requests"),
            _number(duration(now - row.time) if now - row.time >= 1.0 else "now"),
            tag("td", row.worker_id),
            _number("n/a" if row.pid is None else str(row.pid)),
            data_key=f"{row.time} {row.worker_id}",
        )
        for row in found
    ]
    return _table("exits", "Latest worker exits, newest first", heads, body)


def _table(name: str, caption: str, heads: Element, body: Sequence[Node], *, more: int = 0, noun: str = "") -> Element:
    table = tag("table", tag("caption", caption, id=f"{name}-caption"), tag("thead", heads), tag("tbody", *body))
    rest = tag("p", f"and {more:,} more {noun}{'s' if more > 1 else ''}", class_="more") if more else None
    # A region that scrolls sideways must be reachable with the keyboard.
    region = tag("div", table, class_="scroll", tabindex=0, role="region", aria_labelledby=f"{name}-caption")
    return tag("div", region, rest)


def _heads(*names: str) -> Element:
    """Return the head row; the names of numeric columns begin with a #."""
    return tag(
        "tr", *(tag("th", name.lstrip("#"), scope="col", class_="number" if name[0] == "#" else None) for name in names)
    )


def _head(node: Node, class_: str | None = None) -> Element:
    return tag("th", node, scope="row", class_=class_)


def _number(text: str, more: str | None = None) -> Element:
    return tag("td", text, class_=f"number {more}" if more else "number")


def _loop(blocked: float | None) -> Element:
    return _number(duration(blocked), "warn" if blocked and blocked >= LAG_PERIOD_SECONDS else None)


def _requests(found: page_data.Requests | page_data.InterruptedRequests) -> Iterable[Node]:
    if not found.rows and not found.more:
        return [tag("span", "none", class_="age")]
    rows = [
        tag(
            "li",
            tag("span", row.method or "?", class_="method"),
            " ",
            tag("bdi", row.path or "?", class_="path"),
            " ",
            tag("span", duration(row.seconds), class_="age"),
            *(
                (" ", tag("span", "hangs", class_="badge bad"))
                if isinstance(row, page_data.Request) and row.hangs
                else ()
            ),
        )
        for row in found.rows
    ]
    more = tag("li", f"and {found.more:,} more", class_="more") if found.more else None
    return [tag("ul", *rows, more)]


def _lateness(age: float | None, timeout: float) -> str | None:
    return "warn" if age is not None and 0.0 < timeout < 2.0 * age else None
