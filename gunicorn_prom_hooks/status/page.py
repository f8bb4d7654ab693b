"""The status page as HTML, complete without JavaScript."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from . import page_data, tables
from .formatting import UNKNOWN, bound, count, duration, machine_moment, moment, out_of, rate
from .html import Element, Node, document, tag

T = TypeVar("T")


def render(data: page_data.StatusData, address: Callable[[str], str]) -> bytes:
    """Return the page as HTML.

    Args:
        data: of the page.
        address: returns the address of a file of the page by its name.
    """
    title = f"{data.server.app} - gunicorn status" if data.server else "gunicorn status"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="icon", type="image/svg+xml", href=address("status.svg")),
        tag("link", rel="stylesheet", href=address("status.css")),
        tag("script", src=address("status.js"), defer=True),
    )
    body = tag(
        "body",
        tag("a", "Skip to the content", href="#main", class_="skip"),
        _header(title),
        tag("main", *_main(data), id="main", tabindex=-1),
        tag(
            "footer",
            tag("a", "Metrics", href="metrics"),
            tag("a", "This page as JSON", href="status.json"),
        ),
    )
    return document(tag("html", head, body, lang="en"))


def _header(title: str) -> Element:
    return tag(
        "header",
        tag("h1", title),
        tag("p", id="state", role="status"),
        tag("button", "Pause", type="button", id="pause", hidden=True),
        tag("noscript", tag("a", "Reload", href="./", class_="reload")),
    )


def _main(data: page_data.StatusData) -> list[Node]:
    timeout = data.server.timeout_seconds if data.server else 0.0
    return [
        tag(
            "p",
            "As of ",
            tag("time", moment(data.time), datetime=machine_moment(data.time), id="as-of"),
            f". Rates, CPU and latency cover the {_period(data.rates)}.",
            class_="period",
        ),
        _tiles(data),
        _section(
            "workers",
            "Workers",
            data.workers,
            lambda found: tables.workers(found, timeout),
            f"a request hangs after {bound(data.load.hanging_after_seconds)}" if data.load else "",
        ),
        _section(
            "endpoints",
            "Endpoints",
            data.endpoints,
            tables.endpoints,
            "totals since the server started",
        ),
        _section(
            "exits",
            "Worker exits",
            data.exits,
            lambda found: tables.exits(found, data.time) if found else tag("p", "None so far.", class_="none"),
        ),
        tag(
            "div",
            _section("listeners", "Listeners", data.listeners, tables.listeners),
            _section("server", "Server", data.server, _facts),
            class_="pair",
        ),
    ]


def _period(rates: page_data.Rates) -> str:
    span = duration(rates.seconds)
    return f"time since the server started {span} ago" if rates.since_start else f"last {span}"


def _section(name: str, title: str, found: T | None, table: Callable[[T], Node], note: str = "") -> Element:
    content = tag("p", "Not available.", class_="none") if found is None else table(found)
    heading = tag("h2", title, tag("small", f" {note}") if note else None, id=name)
    return tag("section", heading, content, aria_labelledby=name)


def _tiles(data: page_data.StatusData) -> Element:
    traffic, load, server = data.traffic, data.load, data.server
    waiting = [row for row in data.listeners or () if row.queue is not None]
    queue = sum(row.queue or 0 for row in waiting)
    limit = sum(row.queue_limit or 0 for row in waiting)
    unread = [row.unread for row in data.listeners or () if row.unread is not None]
    tiles = [
        _tile("Requests per second", UNKNOWN if traffic is None else rate(traffic.per_second)),
        _tile(
            "In progress",
            UNKNOWN if load is None else out_of(load.in_progress, load.capacity, " of "),
            None if load is None else _meter(load.in_progress, load.capacity, "requests in progress"),
            None if load is None or not load.hanging else tag("span", f"{load.hanging:,} hanging", class_="fail"),
        ),
        _tile(
            "Accept queue",
            f"{queue:,} of {limit:,}" if waiting else UNKNOWN,
            _meter(queue, limit, "connections in the accept queue") if waiting else None,
        ),
        _tile("Waiting in workers", f"{sum(unread):,}" if unread else UNKNOWN),
        _tile(
            "Workers running",
            UNKNOWN if server is None else f"{server.workers_running:,} of {server.workers_target:,}",
            None if server is None else _not_running(server),
        ),
        _tile("Requests", UNKNOWN if traffic is None else count(traffic.requests)),
        _tile(
            "Failed",
            UNKNOWN if traffic is None else count(traffic.failed),
            None if traffic is None else f"{rate(traffic.failed_per_second)} per second",
        ),
    ]
    return tag(
        "section", tag("h2", "Overview", id="overview"), tag("dl", *tiles, class_="tiles"), aria_labelledby="overview"
    )


def _tile(name: str, value: str, *more: Node) -> Element:
    notes = (tag("dd", node, class_="note") for node in more if node is not None)
    return tag("div", tag("dt", name), tag("dd", value, class_="value"), *notes, data_key=name)


def _meter(value: int, limit: int | None, name: str) -> Element | None:
    if limit is None:
        return None
    return tag("meter", value=min(value, limit), min=0, max=max(1, limit), aria_label=f"{name}: {value} of {limit}")


def _not_running(server: page_data.Server) -> str | None:
    others = {"booting": server.workers_booting, "stopping": server.workers_stopping}
    return ", ".join(f"{number:,} {state}" for state, number in others.items() if number) or None


def _facts(server: page_data.Server) -> Element:
    facts = {
        "Master PID": str(server.pid),
        "Uptime": duration(server.uptime_seconds),
        "Worker class": server.worker_class,
        "Timeout": duration(server.timeout_seconds) if server.timeout_seconds else "none",
        "Reloads": count(server.reloads),
        "gunicorn": server.gunicorn,
        "Python": server.python,
        "gunicorn_prom_hooks": server.gunicorn_prom_hooks,
    }
    rows = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts.items()]
    return tag("dl", *rows, class_="facts")
