"""An application with a /metrics of its own: it answers as it would without us, and a full disk ends no process."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.app_metrics_server import when
from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Server, eventually
from tests.integration.conftest import Serve

APP = APPLICATIONS / "own_endpoint.py"


def own(server: Server) -> dict[str, str]:
    """What the application says itself, but for the figures of the process that it runs in."""
    lines = [line for line in server.get("/metrics").text.splitlines() if not line.startswith("#")]
    found = dict(line.rsplit(" ", 1) for line in lines)
    varying = ("process_", "python_gc_")
    return {name: "" if name.startswith(varying) or "_created" in name else found[name] for name in found}


def settings(more: str, *, app_metrics: bool) -> str:
    return f"{more}workers = 1\ninstall(globals(), port=METRICS_PORT, app_metrics={app_metrics})\n"


@pytest.mark.parametrize("more", ["", "preload_app = True\n"])
def test_own_endpoint_has_the_same_values_with_app_metrics_on_and_off(serve: Serve, more: str) -> None:
    """It has the families and the numbers that it has with app_metrics off, also in the second worker of a slot."""
    pages: dict[bool, list[dict[str, str]]] = {}
    for app_metrics in (False, True):
        server = serve(settings(more, app_metrics=app_metrics), app=APP)
        pages[app_metrics] = []
        for _ in range(2):
            assert server.get("/order").text == "ok"
            assert server.get("/fork").text == "0"
            pages[app_metrics].append(own(server))
            [worker] = server.workers()
            worker.kill()
            eventually(lambda: worker not in server.workers(), "it is gone")  # noqa: B023 - it is called now
            server.wait_for_workers(1)
    assert pages[True] == pages[False]
    assert {"shop_queue", 'shop_release_info{version="1.2.3"}', "shop_users"} <= set(pages[True][0])
    samples = when(server, "shop_orders_total", 2, kind="plain")
    assert samples.one("shop_orders_total", kind="forked") == 2
    assert samples.sum("shop_orders_total", kind="odd") == 2
    assert samples.one("shop_seconds_count") == 4
    when(server, "shop_imports_total", 1 if more else 3)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.mark.parametrize("more", ["", "preload_app = True\n"])
@pytest.mark.parametrize("full_from", ["the start", "the first request", "the second worker"])
def test_full_disk_ends_no_process_and_shows_no_wrong_value(
    serve: Serve, disk: Path, more: str, full_from: str
) -> None:
    """No process is killed, whether preloaded, forked or a successor; a metric is right on the page, or not there."""

    def fill() -> None:
        with (disk / "fill").open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass

    if full_from == "the start":
        fill()
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(disk / "metrics")}
    server = serve(more + "workers = 1\n", app=APP, environ=environ)
    if full_from == "the first request":
        fill()
    for generation in range(2):
        for _ in range(3):
            assert server.get("/order").text == "ok"
            assert server.get("/fork").text == "0"
        if generation == 0:
            if full_from == "the second worker":
                fill()
            [worker] = server.workers()
            worker.kill()
            eventually(lambda: worker not in server.workers(), "it is gone")  # noqa: B023 - it is called now
            server.wait_for_workers(1)
    samples = server.settled(12)
    assert samples.sum("gunicorn_worker_exits_total") == 1
    expected = 0 if full_from == "the start" else 6
    assert samples.sum("shop_orders_total", kind="plain") == expected
    assert len(samples.all("shop_orders_total", kind="plain")) == (expected > 0), "absent, and not 0"
    forked = 6 if full_from == "the second worker" else 0  # the next child goes on with the file of the one before
    assert samples.sum("shop_orders_total", kind="forked") == forked
    assert samples.sum("shop_seconds_count") == expected + forked
    # A successor needs no room to count, only to take over the gauges of its predecessor.
    assert samples.sum("gunicorn_exporter_errors_total", where="app_metrics") > 0
