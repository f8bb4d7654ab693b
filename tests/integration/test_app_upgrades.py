"""The application's metrics through upgrades, and on its own endpoint meanwhile."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.helpers.app_metrics_server import APP, directory, own_page, when, zombie
from tests.helpers.servers import eventually
from tests.integration.conftest import Serve


def test_own_endpoint_never_decreases_while_workers_are_replaced(serve: Serve, tmp_path: Path) -> None:
    """The application's own endpoint misses no file and never goes back, with scrapes in between."""
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "a")}
    server = serve("workers = 3\nmax_requests = 3\n", app=APP, environ=environ)
    last = 0.0
    for number in range(60):
        assert server.get("/order").ok
        assert server.get("/set/2").ok
        if number % 3 == 0:
            server.scrape()
        # prometheus_client cannot read a file at the very moment at which it is made, with us or without.
        now = eventually(lambda: own_page(server, 'shop_orders_total{kind="plain"}'), "it answers")
        assert now >= last
        last = now
    assert last == 60
    assert eventually(lambda: own_page(server, "shop_sum"), "it answers") >= 2 * 60 / 3
    assert "FileNotFoundError" not in server.log


@pytest.mark.parametrize("own", [False, True])
def test_usr2_gives_each_master_the_metrics_of_its_own_workers(serve: Serve, own: bool, tmp_path: Path) -> None:
    """USR2: each master has its own workers' metrics, in one directory or in two; what the old one had goes with it."""
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "shared")} if own else {}
    server = serve("workers = 1\npidfile = 'pid'\n", app=APP, environ=environ)
    server.signal(signal.SIGHUP)  # after a reload gunicorn hands on the environment as it is then
    eventually(lambda: server.scrape().one("gunicorn_reloads_total") == 1, "it has reloaded")
    server.wait_for_workers(1)
    server.get("/order")
    when(server, "shop_orders_total", 1)
    old = directory(server)
    server.signal(signal.SIGUSR2)
    new = int(eventually((server.folder / "pid.2").read_text, "the new master"))
    try:
        eventually(lambda: len({server.get("/").text for _ in range(20)}) == 2, "both answer")
        server.signal(signal.SIGTERM)
        assert server.process is not None
        server.process.wait(20)
        eventually(lambda: server.get("/order").ok, "the new one answers")
        samples = eventually(lambda: s if (s := server.scrape()).sum("shop_orders_total") else None, "its metrics")
        assert samples.sum("shop_orders_total") == 1
        assert old.exists() == own
        if own:
            assert own_page(server, "shop_orders_total") == 2
            assert list(old.glob(f"*-{new}.db"))
    finally:
        os.kill(new, signal.SIGTERM)
        eventually(lambda: not os.path.exists(f"/proc/{new}") or zombie(new), "the new master is gone")
    assert not list(tmp_path.rglob("*.db"))
