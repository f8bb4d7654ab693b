"""Files that are continued by a successor, and files that are lost while they are written."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest
from prometheus_client import Gauge

from gunicorn_prom_hooks.app_metrics.dead_processes import hand_over
from tests.helpers.app_metrics import MODES, Reader, theirs
from tests.helpers.forks import in_fork
from tests.helpers.recorded_metrics import App, Disk, counter, histogram, read, whole

pytestmark = pytest.mark.usefixtures("_value_class")


def test_gauge_of_a_successor_does_not_continue_that_of_its_predecessor(tmp_path: Path) -> None:
    """What is left of gauges has a key of its own in the file: a living value never goes on in it."""
    for number, amount in enumerate((5.0, 7.0, 1.0)):
        hand_over(str(tmp_path), "s0", "", None, contextlib.nullcontext)
        app = App(tmp_path)
        gauges = {mode: Gauge(f"g_{mode}", "Help.", multiprocess_mode=mode, registry=None) for mode in MODES}  # type: ignore[arg-type]
        assert [read(gauge) for gauge in gauges.values()] == [{name: 0.0} for name in (f"g_{mode}" for mode in MODES)]
        for mode, gauge in gauges.items():
            change = gauge.set if "mostrecent" in mode else gauge.inc
            change(amount)
        page, before = app.page(), (5.0, 7.0, 1.0)[: number + 1]
        assert page["g_sum"] == sum(before)
        assert (page["g_min"], page["g_max"]) == (min(before), max(before))
        assert [page[f"g_live{mode}"] for mode in ("sum", "min", "max")] == [amount] * 3
        assert Reader(tmp_path).rows() == theirs(tmp_path)
        app.store._close()
    assert app.failures == 0


@pytest.mark.parametrize("what", ["nothing", "removed", "seeded", "link", "folder"])
@pytest.mark.parametrize("count", [1, 2000])
def test_replaced_or_removed_file_is_written_again_with_all_counts(tmp_path: Path, what: str, count: int) -> None:
    """All that the process has counted is in the new one, whatever was there; then it goes on in it."""
    folder = tmp_path / "files"
    folder.mkdir()
    app = App(folder)
    app.ensure = lambda: folder.mkdir(exist_ok=True)
    orders, waiting = counter("orders", "number"), Gauge("waiting", "Help.", multiprocess_mode="max", registry=None)
    for number in range(count):
        orders.labels(str(number)).inc(2)
    waiting.set(4)
    file = folder / "counter_s0.db"
    before = file.read_bytes()
    orders.labels("0").inc(3)
    if what == "folder":
        shutil.rmtree(folder)
    elif what != "nothing":
        file.unlink()
    if what == "seeded":
        file.write_bytes(before)
    elif what == "link":
        (tmp_path / "elsewhere").write_text("mine")
        file.symlink_to(tmp_path / "elsewhere")
    inode = file.stat().st_ino if what == "nothing" else None
    app.place.changed(str(folder))
    orders.labels("0").inc(5)
    waiting.inc()
    assert app.total("orders_total") == 2 * count + 8
    assert app.page()["waiting"] == 5
    assert whole(folder) == {"counter_s0.db", "gauge_max_s0.db"}
    assert inode in (None, file.stat().st_ino)
    for number in range(count, 2 * count):
        orders.labels(str(number)).inc(2)
    assert app.total("orders_total") == 4 * count + 8
    assert read(orders.labels("0")) == {"orders_total": 10}
    assert what != "link" or (tmp_path / "elsewhere").read_text() == "mine"
    assert Reader(folder).rows() == theirs(folder)
    assert app.failures == 0
    assert in_fork(lambda: [fd for fd in os.listdir("/proc/self/fd") if is_in(folder, fd)]) == []


def is_in(folder: Path, descriptor: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(folder))
    except FileNotFoundError:
        return False


def test_lost_file_without_room_is_written_when_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process goes on in the one that is not there any more, and writes all of it at the next chance."""
    app = App(tmp_path)
    orders = counter()
    orders.inc(3)
    disk = Disk(monkeypatch, 0)
    counter("without").inc()
    seconds = histogram()
    seconds.observe(1)
    (tmp_path / "counter_s0.db").unlink()
    app.place.changed(str(tmp_path))
    orders.inc()
    seconds.observe(1)
    failures = app.failures
    for _ in range(5):
        orders.inc()
        seconds.observe(1)
    assert (list(tmp_path.iterdir()), app.failures) == ([], failures)
    disk.room = 1 << 20
    app.place.changed(str(tmp_path))
    seconds.observe(1.5)
    app.store.settle()
    assert app.page()["orders_total"] == 9
    found = app.page()["seconds_count"], app.page()["seconds_sum"]
    assert found == (8, 8.5), "what had no room has another try, with what was counted meanwhile"
    assert read(seconds)["seconds_count"] == 8
    assert whole(tmp_path) == {"counter_s0.db", "histogram_s0.db"}


def test_files_lost_before_a_fork_are_written_by_the_parent_only(tmp_path: Path) -> None:
    """The child has none to make anew; its parent makes its own, before it ends at the latest."""
    app = App(tmp_path)
    orders = counter()
    orders.inc(3)
    (tmp_path / "counter_s0.db").unlink()
    app.place.changed(str(tmp_path))

    def child() -> None:
        app.identity = "p1"
        app.store.settle()
        orders.inc(5)

    in_fork(child)
    assert app.page() == {"orders_total": 5}
    app.store.settle()
    assert app.page() == {"orders_total": 8}
