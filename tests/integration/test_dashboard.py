"""The dashboard for Grafana, asked of a real Prometheus that scrapes two real servers under load."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from gunicorn_prom_hooks.settings import DEFAULT_DURATION_BUCKETS
from tests.helpers.dashboard_picture import ROWS, Span, draw
from tests.helpers.dashboard_servers import WAITING, Servers
from tests.helpers.grafana import Grafana
from tests.helpers.servers import eventually

pytestmark = pytest.mark.slow

SHOP_COUNTERS = {"shop_orders_total", "shop_latency_seconds_count", "shop_size_bytes_count"}
ONLY_THREADS = {
    "Utilization of threads or connections A",
    "Requests in progress B",
    "Rate of $metric A",
    "Value of $gauge A",
}
"""Queries with results for the server with threads, and none for the one with event loops."""
ONLY_LOOPS = {
    "Utilization of event loops A",
    "Event loop lag by worker A",
    "Event loop lag by worker B",
    "Websockets A",
}
"""Queries with results for the server with event loops, and none for the one with threads."""


@pytest.mark.needs("prometheus")
def test_every_query_of_the_dashboard_returns_data(tmp_path: Path) -> None:
    """With failures, a killed worker and a queue, each panel and variable has data of the servers that it is about."""
    with ExitStack() as stack:
        servers = Servers(stack, tmp_path)
        grafana = servers.grafana
        start = time.time()
        shop, search = (f"127.0.0.1:{server.metrics_port}" for server in (servers.shop, servers.search))
        eventually(lambda: check_variables(grafana, shop, search), "each variable has its values")
        eventually(lambda: check_load(grafana, start, {shop, search}), "requests of each kind are recorded")
        servers.crash()
        stack.enter_context(servers.full())
        pending = {target.name: target for target in grafana.board.targets()}
        found: dict[str, set[str]] = {}

        def probe() -> bool:
            for name, target in list(pending.items()):
                series = grafana.ask(target, start, time.time(), 1)
                found[name] = {one["metric"].get("instance", "") for one in series}
                servers_or_total = [{shop}] if name in ONLY_THREADS else [{search}] if name in ONLY_LOOPS else None
                if found[name] in (servers_or_total or [{shop, search}, {""}]):
                    del pending[name]
            assert not pending, {name: found[name] for name in pending}
            return True

        eventually(probe, "each query has data of each server")
        eventually(lambda: check_incidents(grafana, start, {shop, search}), "the panels show what has happened")
        picture = tmp_path / "dashboard.png"
        draw(grafana, ROWS, Span(start, time.time(), 1), picture)
        assert picture.read_bytes().startswith(b"\x89PNG")
        grafana.choose(app="shop", endpoint="/order")
        assert grafana.options["instance"] == [shop]
        only = ask(grafana, "Requests by endpoint A", start)
        assert {(labels["instance"], labels["endpoint"]) for labels, _ in only} == {(shop, "/order")}


def ask(grafana: Grafana, name: str, start: float) -> list[tuple[dict[str, str], float]]:
    """Return labels and highest value of each series of a query, by the name of its panel and its letter."""
    [target] = [target for target in grafana.board.targets() if target.name == name]
    series = grafana.ask(target, start, time.time(), 1)
    return [(one["metric"], max(value for _, value in one["values"])) for one in series]


def check_variables(grafana: Grafana, shop: str, search: str) -> bool:
    """Read the variables, and check that each of them offers what it is for."""
    grafana.choose()
    assert grafana.options["job"] == ["gunicorn"]
    assert set(grafana.options["app"]) == {"shop", "search"}
    assert set(grafana.options["instance"]) == {shop, search}
    assert {"/order", "/search/:id"} <= set(grafana.options["endpoint"])
    metrics, gauges = set(grafana.options["metric"]), set(grafana.options["gauge"])
    assert {"shop_latency_seconds_count", "shop_size_bytes_count"} <= metrics <= SHOP_COUNTERS
    assert {"shop_max", "shop_livesum"} <= gauges
    assert all(name.startswith("shop_") and name not in SHOP_COUNTERS for name in gauges)
    return True


def check_load(grafana: Grafana, start: float, servers: set[str]) -> bool:
    """Check that each server has several failures and disconnects. asgi does not report malformed requests."""
    disconnects, malformed = (ask(grafana, f"Disconnects and malformed requests {ref}", start) for ref in "AB")
    assert {labels["instance"] for labels, value in disconnects if value} == servers
    assert any(value for _, value in malformed)
    found = [(labels["instance"], labels["endpoint"]) for labels, value in ask(grafana, "Endpoints B", start) if value]
    assert {("/boom", server) for server in servers} <= {(endpoint, server) for server, endpoint in found}
    return True


def check_incidents(grafana: Grafana, start: float, servers: set[str]) -> bool:
    """Check that the panels have the killed workers, their requests, the queues and the full servers."""
    exits = {
        labels["instance"]: value
        for labels, value in ask(grafana, "Worker exits in the time range A", start)
        if (labels["reason"], labels["detail"]) == ("signal", "SIGSEGV")
    }
    assert exits == dict.fromkeys(servers, pytest.approx(1, abs=0.5))
    killed = {
        labels["instance"]: value
        for labels, value in ask(grafana, "Killed requests in the time range A", start)
        if (labels["method"], labels["endpoint"], labels["reason"]) == ("GET", "/hang", "signal")
    }
    assert killed == dict.fromkeys(servers, pytest.approx(1, abs=0.5))
    [(_, unexpected)] = ask(grafana, "Unexpected worker exits A", start)
    assert unexpected == pytest.approx(2, abs=1)
    [(_, fullest)] = ask(grafana, "Fullest server A", start)
    assert fullest > 0.9
    assert all(value >= WAITING for _, value in ask(grafana, "Servers H", start))
    failed = {labels["error_type"] for labels, _ in ask(grafana, "Failures by exception A", start)}
    assert {"ValueError", "HTTP 503"} <= failed
    buckets = {float(labels["le"]) for labels, _ in ask(grafana, "Request durations A", start)}
    assert buckets == {*DEFAULT_DURATION_BUCKETS, math.inf}
    return True
