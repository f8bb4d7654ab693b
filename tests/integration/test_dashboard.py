"""The dashboard for Grafana, asked of a real Prometheus that scrapes two real servers under load."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.helpers.dashboard_servers import Servers
from tests.helpers.grafana import Target
from tests.helpers.servers import eventually

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

        def chosen() -> bool:
            grafana.choose()
            return all(grafana.options.values())

        eventually(chosen, "each variable has values")
        assert set(grafana.options["app"]) == {"shop", "search"}
        assert set(grafana.options["instance"]) == {shop, search}
        assert "/order" in grafana.options["endpoint"]
        assert {"shop_orders_total", "shop_latency_seconds_count"} <= set(grafana.options["metric"])
        assert {"shop_max", "shop_livesum"} <= set(grafana.options["gauge"])
        assert not {name for name in grafana.options["metric"] if not name.startswith("shop_")}
        servers.crash()
        stack.enter_context(servers.full())
        pending = {target.name: target for target in grafana.board.targets()}
        found: dict[str, dict[str, float]] = {}

        def instances(target: Target) -> dict[str, float]:
            """Return the highest value by instance."""
            highest: dict[str, float] = {}
            for series in grafana.ask(target, start, time.time(), 1):
                name = series["metric"].get("instance", "")
                highest[name] = max(highest.get(name, 0), *(value for _, value in series["values"]))
            return highest

        def complete(target: Target) -> bool:
            of = found[target.name] = instances(target)
            if target.name in ONLY_THREADS:
                return set(of) == {shop}
            if target.name in ONLY_LOOPS:
                return set(of) == {search}
            return set(of) in ({shop, search}, {""})

        def probe() -> bool:
            for name, target in list(pending.items()):
                if complete(target):
                    del pending[name]
            assert not pending, {name: found[name] for name in pending}
            return True

        eventually(probe, "each query has data of each server")
